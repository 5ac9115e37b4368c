import type { DataSource } from 'typeorm';
import type { IdempotencyModuleOptions } from '../../lib';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { migrated } from './database';
import { openProcess, type Process } from './tiers';

export interface ProcessesOnServers {
  readonly redis: RunningRedis;
  /** Of the database of all of them. */
  readonly url: string;
  /** On that database. */
  readonly dataSource: DataSource;
  /** One that ends with its test. */
  readonly open: (options?: IdempotencyModuleOptions) => Promise<Process>;
  readonly openAll: (count: number) => Promise<Process[]>;
  /** Ends one before its test. */
  readonly close: (process: Process) => Promise<void>;
}

/** For the tests of a `describe`: a Postgres and a Redis, and processes on both. */
export function processesOnServers(): ProcessesOnServers {
  const processes = new Set<Process>();
  let postgres!: RunningPostgres;
  const running = {} as { -readonly [name in keyof ProcessesOnServers]: ProcessesOnServers[name] };
  running.open = async (options) => {
    const process = await openProcess(running.dataSource, running.redis.url, options);
    processes.add(process);
    return process;
  };
  running.openAll = (count) => Promise.all(Array.from({ length: count }, () => running.open()));
  running.close = (process) => {
    processes.delete(process);
    return process.close();
  };
  beforeAll(async () => {
    [postgres, running.redis] = await Promise.all([startPostgres(), startRedis()]);
    running.url = await postgres.createDatabase();
    running.dataSource = await migrated(running.url);
  });
  afterAll(async () => {
    await running.dataSource.destroy();
    await Promise.all([postgres.stop(), running.redis.stop()]);
  });
  afterEach(async () => {
    await Promise.all([...processes].map(running.close));
  });
  return running;
}
