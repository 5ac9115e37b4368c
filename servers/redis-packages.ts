import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { retrying } from './retry';

/** How to run a Redis server. */
export interface RedisBinary {
  readonly command: string;
  readonly env: NodeJS.ProcessEnv;
}

/** Long enough for a slow mirror, short enough to get on without Redis where there is no network. */
const TIMEOUT = 60_000;

/** apt's own patience would have everybody without a network wait for half a minute. */
const IMPATIENT = ['-o', 'Acquire::Retries=0', '-o', 'Acquire::http::Timeout=15'];

/** Another process of ours, or the system itself, may be at it. */
const WHILE_LOCKED = { on: /could not get lock|unable to lock/i, attempts: 120, pause: 500 };

/** The C library has to be the system's own. */
const NOT_OURS = /^libc6$|^libc-bin$/;

/** The newest Redis in our cache, if there is one. */
export async function cachedRedis(cache: string): Promise<RedisBinary | undefined> {
  const entries = await readdir(cache).catch(() => []);
  const newest = entries
    .filter((name) => name.startsWith('redis-') && name.endsWith(`-${process.arch}`))
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .at(-1);
  return newest === undefined ? undefined : binaryIn(join(cache, newest));
}

/**
 * Downloads the distribution's packages of Redis and of the libraries it needs, and unpacks them in our cache.
 * @throws Error where there is no apt, no network, or no right to refresh missing package lists
 */
export async function fetchRedis(cache: string): Promise<RedisBinary> {
  await mkdir(cache, { recursive: true });
  const making = await mkdtemp(join(cache, 'making-'));
  try {
    // A fresh system has no package lists yet, an old one has lists of packages that are gone.
    await download(making).catch(async () => {
      await retrying(WHILE_LOCKED, () => run('apt-get', [...IMPATIENT, 'update'], making));
      await download(making);
    });
    const root = join(making, 'root');
    const packages = (await readdir(making)).filter((file) => file.endsWith('.deb'));
    for (const file of packages) await run('dpkg-deb', ['-x', file, root], making);
    const target = join(cache, `redis-${await versionOf(packages, making)}-${process.arch}`);
    await moveTo(target, root);
    return await binaryIn(target);
  } finally {
    await rm(making, { recursive: true, force: true });
  }
}

async function download(folder: string): Promise<void> {
  const packages = new Set([
    ...['redis-server', 'redis-tools'],
    ...(await libraries(folder)),
    ...(await missing(folder)),
  ]);
  await run('apt-get', [...IMPATIENT, 'download', ...packages], folder);
}

/** The libraries that Redis itself names, whether the system says it has them or not. */
async function libraries(folder: string): Promise<string[]> {
  const depends = await run('apt-cache', ['depends', 'redis-server', 'redis-tools'], folder);
  return names(depends, /^\s*\|?(?:Pre)?Depends: ((?:lib|lua)\S+)$/gm);
}

/** What an installation would add to the system, which on a slim one includes the libraries of those libraries. */
async function missing(folder: string): Promise<string[]> {
  const args = ['install', '--simulate', '--no-install-recommends', 'redis-server'];
  // A system with half-installed packages refuses to plan anything, and may well have what is needed.
  return names(await run('apt-get', args, folder).catch(() => ''), /^Inst (\S+)/gm);
}

function names(output: string, pattern: RegExp): string[] {
  return [...output.matchAll(pattern)].flatMap(([, name]) => (name && !NOT_OURS.test(name) ? [name] : []));
}

async function versionOf(packages: readonly string[], folder: string): Promise<string> {
  const tools = packages.find((file) => file.startsWith('redis-tools_')) ?? '';
  const version = await run('dpkg-deb', ['-f', tools, 'Version'], folder);
  return version.trim().replace(/^\d+:/, ''); // a colon would end the path in LD_LIBRARY_PATH
}

/** Whoever is first wins; what the others have made is the same. What is there and does not run is replaced. */
async function moveTo(target: string, root: string): Promise<void> {
  await rename(root, target).catch(async () => {
    const binary = await binaryIn(target);
    const runs = await run(binary.command, ['--version'], target, binary.env).then(
      () => true,
      () => false,
    );
    if (runs) return;
    await rm(target, { recursive: true, force: true });
    await rename(root, target);
  });
}

async function binaryIn(root: string): Promise<RedisBinary> {
  const folders: string[] = [];
  for (const lib of [join(root, 'usr', 'lib'), join(root, 'lib')]) {
    for (const name of await readdir(lib).catch(() => [])) {
      if (name.includes('-linux-gnu')) folders.push(join(lib, name));
    }
  }
  const { LD_LIBRARY_PATH } = process.env;
  if (LD_LIBRARY_PATH) folders.push(LD_LIBRARY_PATH);
  return {
    command: join(root, 'usr', 'bin', 'redis-server'),
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
