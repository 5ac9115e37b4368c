import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { retrying } from './retry';

/** How to run a program. */
export interface Program {
  readonly command: string;
  readonly env: NodeJS.ProcessEnv;
}

/** A program that a distribution of Debian's kin has, and that runs without being installed. */
export interface DebianProgram {
  /** What its folder in our cache begins with, and the package whose libraries it needs. */
  readonly name: string;
  /** Every package to unpack, beside libraries; the last one has the program and gives the version. */
  readonly packages: readonly [string, ...string[]];
  /** Where the program lies, such as `usr/bin/redis-server`. */
  readonly path: string;
}

/** Long enough for a slow mirror, short enough to get on without where there is no network. */
const TIMEOUT = 60_000;

/** With apt's own patience a machine without a network would wait for half a minute. */
const IMPATIENT = ['-o', 'Acquire::Retries=0', '-o', 'Acquire::http::Timeout=15'];

/** Another process of ours, or the system itself, may be at it. */
const WHILE_LOCKED = { on: /could not get lock|unable to lock/i, attempts: 120, pause: 500 };

/** The C library has to be the system's own. */
const NOT_OURS = /^libc6$|^libc-bin$/;

/** The newest one in our cache, if there is one. */
export async function cached(program: DebianProgram, cache: string): Promise<Program | undefined> {
  const entries = await readdir(cache).catch(() => []);
  const newest = entries
    .filter((entry) => entry.startsWith(`${program.name}-`) && entry.endsWith(`-${process.arch}`))
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .at(-1);
  return newest === undefined ? undefined : programIn(join(cache, newest), program);
}

/**
 * Downloads the distribution's packages of a program and of the libraries it needs, and unpacks them in our cache.
 * @throws Error where there is no apt, no network, or no right to refresh missing package lists
 */
export async function fetched(program: DebianProgram, cache: string): Promise<Program> {
  await mkdir(cache, { recursive: true });
  const making = await mkdtemp(join(cache, 'making-'));
  try {
    // A fresh system has no package lists yet, an old one has lists of packages that are gone.
    await download(program, making).catch(async () => {
      await retrying(WHILE_LOCKED, () => run('apt-get', [...IMPATIENT, 'update'], making));
      await download(program, making);
    });
    const root = join(making, 'root');
    const files = (await readdir(making)).filter((file) => file.endsWith('.deb'));
    for (const file of files) await run('dpkg-deb', ['-x', file, root], making);
    const version = await versionOf(program, files, making);
    const target = join(cache, `${program.name}-${version}-${process.arch}`);
    await moveTo(target, root, program);
    return await programIn(target, program);
  } finally {
    await rm(making, { recursive: true, force: true });
  }
}

async function download({ packages }: DebianProgram, folder: string): Promise<void> {
  const named = await libraries(packages, folder);
  const all = new Set([...packages, ...named, ...(await missing(named, folder))]);
  await run('apt-get', [...IMPATIENT, 'download', ...all], folder);
}

/** The libraries that the program itself names, whether the system says it has them or not. */
async function libraries(packages: readonly string[], folder: string): Promise<string[]> {
  const depends = await run('apt-cache', ['depends', ...packages], folder);
  return names(depends, /^\s*\|?(?:Pre)?Depends: ((?:lib|lua)\S+)$/gm);
}

/** What their installation would add to the system, which on a slim one includes the libraries of those libraries. */
async function missing(named: readonly string[], folder: string): Promise<string[]> {
  const args = ['install', '--simulate', '--no-install-recommends', ...named];
  // A system with half-installed packages refuses to plan anything, and may well have what is needed.
  return names(await run('apt-get', args, folder).catch(() => ''), /^Inst (\S+)/gm);
}

function names(output: string, pattern: RegExp): string[] {
  return [...output.matchAll(pattern)].flatMap(([, name]) => (name && !NOT_OURS.test(name) ? [name] : []));
}

async function versionOf(
  { packages }: DebianProgram,
  files: readonly string[],
  folder: string,
): Promise<string> {
  const file = files.find((each) => each.startsWith(`${packages.at(-1)}_`)) ?? '';
  const version = await run('dpkg-deb', ['-f', file, 'Version'], folder);
  return version.trim().replace(/^\d+:/, ''); // a colon would end the path in LD_LIBRARY_PATH
}

/** The first process wins; what the others have made is the same. What is there and does not run is replaced. */
async function moveTo(target: string, root: string, what: DebianProgram): Promise<void> {
  await rename(root, target).catch(async () => {
    const { command, env } = await programIn(target, what);
    const runs = await run(command, ['--version'], target, env).then(
      () => true,
      () => false,
    );
    if (runs) return;
    await rm(target, { recursive: true, force: true });
    await rename(root, target);
  });
}

async function programIn(root: string, { path }: DebianProgram): Promise<Program> {
  const folders: string[] = [];
  for (const lib of [join(root, 'usr', 'lib'), join(root, 'lib')]) {
    for (const name of await readdir(lib).catch(() => [])) {
      if (name.includes('-linux-gnu')) folders.push(join(lib, name));
    }
  }
  const { LD_LIBRARY_PATH } = process.env;
  if (LD_LIBRARY_PATH) folders.push(LD_LIBRARY_PATH);
  return {
    command: join(root, path),
    env: { ...process.env, LD_LIBRARY_PATH: folders.join(delimiter) },
  };
}

async function run(
  command: string,
  args: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv = { ...process.env, LC_ALL: 'C' },
): Promise<string> {
  const { stdout } = await promisify(execFile)(command, args, { cwd, env, timeout: TIMEOUT });
  return stdout;
}
