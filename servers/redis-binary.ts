import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** No Redis server can be had on this machine; the message says what to install. */
export class RedisUnavailableError extends Error {
  constructor(cause?: unknown) {
    super(
      'No redis-server found, and none could be fetched: install Redis (apt-get install redis-server, brew install redis) or set REDIS_URL.',
      { cause },
    );
    this.name = 'RedisUnavailableError';
  }
}

export interface RedisBinary {
  readonly command: string;
  readonly env: NodeJS.ProcessEnv;
}

/** Debian's packages that hold the server and those of its libraries that a bare system lacks. */
const PACKAGES = ['redis-server', 'redis-tools', 'liblzf1', 'libjemalloc2', 'libatomic1'];

/**
 * `redis-server` from REDIS_SERVER or PATH; else, on Debian and its kin, its packages are fetched (not installed)
 * into the user's cache, in about 2 s the first time.
 * @throws RedisUnavailableError
 */
export async function findRedisBinary(): Promise<RedisBinary> {
  const { REDIS_SERVER, PATH = '' } = process.env;
  const installed = [REDIS_SERVER, ...PATH.split(delimiter).map((folder) => join(folder, 'redis-server'))];
  for (const command of installed) {
    if (command && existsSync(command)) return { command, env: process.env };
  }
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'nestjs-idempotency', 'redis');
  try {
    if (!existsSync(cache)) await fetchPackages(cache);
    return await unpacked(cache);
  } catch (cause) {
    throw new RedisUnavailableError(cause);
  }
}

async function fetchPackages(target: string): Promise<void> {
  await mkdir(dirname(target), { recursive: true });
  const folder = await mkdtemp(`${target}-`);
  try {
    const download = (): Promise<unknown> =>
      run('apt-get', ['download', ...PACKAGES], { cwd: folder, timeout: 120_000 });
    // A fresh system has no package lists yet.
    await download().catch(async () => {
      await run('apt-get', ['update'], { timeout: 120_000 });
      await download();
    });
    for (const file of await readdir(folder)) {
      if (file.endsWith('.deb')) await run('dpkg-deb', ['-x', join(folder, file), join(folder, 'root')]);
    }
    // Whoever is first wins; what the others made is the same.
    await rename(join(folder, 'root'), target).catch((error: unknown) => {
      if (!existsSync(target)) throw error;
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function unpacked(root: string): Promise<RedisBinary> {
  const lib = join(root, 'usr', 'lib');
  const folders = (await readdir(lib))
    .filter((name) => name.endsWith('-linux-gnu'))
    .map((name) => join(lib, name));
  const env = { ...process.env, LD_LIBRARY_PATH: folders.join(delimiter) };
  const command = join(root, 'usr', 'bin', 'redis-server');
  await run(command, ['--version'], { env });
  return { command, env };
}
