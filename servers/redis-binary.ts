import { execFile } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, isAbsolute, join } from 'node:path';
import { promisify } from 'node:util';
import { cachedRedis, fetchRedis, type RedisBinary } from './redis-packages';

export type { RedisBinary };

const INSTALL =
  'install Redis (apt-get install redis-server, brew install redis), or set REDIS_URL or REDIS_SERVER.';

/** No Redis server can be had on this machine; the message says in one line what to install. */
export class RedisUnavailableError extends Error {
  constructor(reason: string, cause?: unknown) {
    super(`${reason}: ${INSTALL}`, { cause });
    this.name = 'RedisUnavailableError';
  }
}

/**
 * The binary that REDIS_SERVER names, or `redis-server` from PATH; else, on Debian and its kin, its packages are
 * fetched (not installed) into the user's cache, in about 2 s the first time.
 * @throws RedisUnavailableError
 */
export async function findRedisBinary(): Promise<RedisBinary> {
  const { REDIS_SERVER } = process.env;
  const command = onPath(REDIS_SERVER ?? 'redis-server');
  if (command) return { command, env: process.env };
  if (REDIS_SERVER) throw new RedisUnavailableError(`REDIS_SERVER names no program (${REDIS_SERVER})`);
  try {
    const cache = cacheFolder();
    return (await usable(await cachedRedis(cache))) ?? (await checked(await fetchRedis(cache)));
  } catch (cause) {
    throw new RedisUnavailableError('No redis-server found, and none could be fetched', cause);
  }
}

function onPath(name: string): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter).filter(Boolean);
  const candidates = name.includes('/') ? [name] : folders.map((folder) => join(folder, name));
  return candidates.find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

function cacheFolder(): string {
  const { XDG_CACHE_HOME = '' } = process.env;
  const base = isAbsolute(XDG_CACHE_HOME) ? XDG_CACHE_HOME : join(homedir(), '.cache');
  return join(base, 'nestjs-idempotency');
}

/** What was fetched before an upgrade of the system may not run on it any more. */
async function usable(binary: RedisBinary | undefined): Promise<RedisBinary | undefined> {
  return binary && checked(binary).catch(() => undefined);
}

async function checked(binary: RedisBinary): Promise<RedisBinary> {
  await promisify(execFile)(binary.command, ['--version'], { env: binary.env, timeout: 10_000 });
  return binary;
}
