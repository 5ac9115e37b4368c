import Redis from 'ioredis';
import { RedisConnection } from '../../lib/store/redis/connection/redis.connection';
import { RedisStore } from '../../lib/store/redis/redis.store';
import { startRedis, type RunningRedis } from '../../servers';
import { SEALS } from '../support/seals';
import { storeContract } from '../../lib/testing';

let redis: RunningRedis;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

describe.each(SEALS)('Redis store: %s', (_, cipher) => {
  storeContract({ describe, it, expect, beforeAll, afterAll }, async ({ retention }) => {
    const application = new Redis(redis.url, { lazyConnect: true });
    const connections = [1, 2].map(
      () => new RedisConnection(application, { timeout: 2_000, onAvailabilityChange: () => undefined }),
    );
    await Promise.all(connections.map((connection) => connection.open()));
    const [store, another] = connections.map(
      (connection) => new RedisStore({ connection, keyPrefix: 'contract:', ttl: retention, cipher }),
    );
    return {
      store: store!,
      another: another!,
      close: async () => {
        await Promise.all(connections.map((connection) => connection.close()));
        application.disconnect();
      },
    };
  });
});
