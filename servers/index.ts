export { PgBouncerUnavailableError, startPgBouncer, type PgBouncerStartOptions } from './pgbouncer';
export { startPostgres, type PostgresStartOptions, type RunningPostgres } from './postgres';
export { startSynchronousStandby, type RunningStandby } from './postgres-standby';
export { startRedis, type RedisStartOptions, type RunningRedis } from './redis';
export { findPsql } from './psql';
export { findRedisBinary, RedisUnavailableError, type RedisBinary } from './redis-binary';
export { SlotMigration, startRedisCluster } from './redis-cluster';
export { startRedisSentinels, type RunningSentinels } from './redis-sentinel';
export type { RunningServer } from './running-server';
