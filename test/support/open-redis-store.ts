import Redis from 'ioredis';
import { RedisConnection } from '../../lib/store/redis/connection/redis.connection';
import { RedisStore } from '../../lib/store/redis/redis.store';
import { startRedis } from '../../servers';

export interface OpenRedisStore {
  readonly url: string;
  readonly application: Redis;
  readonly connection: RedisConnection;
  readonly store: RedisStore;
}

/** For the tests of a file: a Redis, the application's client, and a store on a connection of the module's own. */
export function openRedisStore(): OpenRedisStore {
  const open = {} as { -readonly [name in keyof OpenRedisStore]: OpenRedisStore[name] };
  let stop: () => Promise<void>;
  beforeAll(async () => {
    const redis = await startRedis();
    open.url = redis.url;
    open.application = new Redis(redis.url);
    open.connection = new RedisConnection(open.application, { timeout: 5_000 });
    await open.connection.open();
    open.store = new RedisStore({ connection: open.connection, keyPrefix: 'idempotency:', ttl: 60_000 });
    stop = async () => {
      await open.connection.close();
      await open.application.quit();
      await redis.stop();
    };
  });
  afterAll(() => stop());
  return open;
}
