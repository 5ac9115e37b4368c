import Redis from 'ioredis';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import type { TestApp } from './app';

export interface BothStores {
  readonly postgres: RunningPostgres;
  readonly redis: RunningRedis;
  /** A look into Redis, which is emptied before each test. */
  readonly client: Redis;
  /** Those that a test has started: they end with it, or with `closeAll`. */
  readonly apps: TestApp[];
  readonly closeAll: () => Promise<void>;
}

/** For the tests of a `describe` that start their own applications: a Postgres and a Redis. */
export function bothStores(): BothStores {
  const apps: TestApp[] = [];
  const closeAll = async (): Promise<void> => {
    await Promise.all(apps.splice(0).map((app) => app.close()));
  };
  const running = { apps, closeAll } as { -readonly [name in keyof BothStores]: BothStores[name] };
  beforeAll(async () => {
    [running.postgres, running.redis] = await Promise.all([startPostgres(), startRedis()]);
    running.client = new Redis(running.redis.url);
  });
  afterAll(async () => {
    running.client.disconnect();
    await Promise.all([running.postgres.stop(), running.redis.stop()]);
  });
  beforeEach(() => running.client.flushall());
  afterEach(closeAll);
  return running;
}
