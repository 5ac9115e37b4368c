import type { Program } from './debian-packages';
import { findProgram } from './program';

/** How to run a Redis server. */
export type RedisBinary = Program;

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
 * The binary that REDIS_SERVER names, `redis-server` from PATH, or one that is fetched.
 * @throws RedisUnavailableError
 */
export function findRedisBinary(): Promise<RedisBinary> {
  return findProgram({
    variable: 'REDIS_SERVER',
    command: 'redis-server',
    debian: { name: 'redis', packages: ['redis-server', 'redis-tools'], path: 'usr/bin/redis-server' },
    unavailable: (reason, cause) => new RedisUnavailableError(reason, cause),
  });
}
