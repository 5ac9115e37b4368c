import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { startApp, type TestApp, type TestAppOptions } from './app';

export interface AppOnServers {
  readonly app: TestApp;
  readonly postgres: RunningPostgres;
  readonly redis: RunningRedis;
}

/** For the tests of a `describe`: a Postgres, a Redis, and one application on both. */
export function appOnServers(options: TestAppOptions): AppOnServers {
  const running = {} as { -readonly [name in keyof AppOnServers]: AppOnServers[name] };
  beforeAll(async () => {
    [running.postgres, running.redis] = await Promise.all([startPostgres(), startRedis()]);
    const { postgres, redis } = running;
    running.app = await startApp({ databaseUrl: postgres.url, redisUrl: redis.url, ...options });
  });
  afterAll(async () => {
    await running.app.close();
    await Promise.all([running.postgres.stop(), running.redis.stop()]);
  });
  return running;
}
