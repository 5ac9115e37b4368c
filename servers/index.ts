export { startPostgres, type RunningPostgres } from './postgres';
export type { RunningServer } from './process';
export { startRedis, type RunningRedis } from './redis';
export { RedisUnavailableError } from './redis-binary';
