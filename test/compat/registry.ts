import { join } from 'node:path';
import { CommandError, run } from './command';

const UNREACHABLE =
  /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|EIDLETIMEOUT|ENOTCACHED|E5\d\d)\b/;

/** Its reasons are wanted also under `npm run --silent`. */
const BOUNDED = ['--loglevel=warn', '--fetch-retries=1', '--fetch-timeout=60000'];
const INSTALL = ['install', '--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts', ...BOUNDED];

export class RegistryUnreachableError extends Error {}

/** The npm packages that hold Node's own binary are named by platform. */
const NODE = `node-${process.platform}-${process.arch}`;

/** @throws RegistryUnreachableError; CommandError if npm refuses, with its reason */
export async function npmInstall(cwd: string, ...packages: string[]): Promise<void> {
  await reaching(run('npm', [...INSTALL, ...packages], { cwd, timeout: 300_000 }));
}

/**
 * The newest release of Node with long-term support, or one that is to have it: those of even majors.
 * @throws RegistryUnreachableError
 */
export async function newestEvenNode(cwd: string): Promise<string> {
  const answer = await reaching(
    run('npm', ['view', NODE, 'versions', '--json', ...BOUNDED], { cwd, timeout: 60_000 }),
  );
  const newest = (JSON.parse(answer) as string[])
    .filter((version) => /^\d+\.\d+\.\d+$/.test(version))
    .map((version) => version.split('.').map(Number))
    .filter(([major = 1]) => major % 2 === 0)
    .sort((a, b) => a[0]! - b[0]! || a[1]! - b[1]! || a[2]! - b[2]!)
    .at(-1);
  if (!newest) throw new Error(`npm knows no even release of ${NODE}`);
  return newest.join('.');
}

/** Installs a release of Node into a folder, and returns the path of its binary. */
export async function installNode(folder: string, version: string): Promise<string> {
  await npmInstall(folder, `${NODE}@${version}`);
  return join(folder, 'node_modules', NODE, 'bin', 'node');
}

async function reaching<T>(command: Promise<T>): Promise<T> {
  try {
    return await command;
  } catch (error) {
    const code = error instanceof CommandError && UNREACHABLE.exec(error.output)?.[0];
    if (!code) throw error;
    throw new RegistryUnreachableError(
      `The npm registry cannot be reached (${code}), and the rows install from it.`,
      { cause: error },
    );
  }
}
