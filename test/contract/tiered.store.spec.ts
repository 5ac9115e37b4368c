import type { IdempotencyModuleOptions } from '../../lib';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { migrated } from '../support/database';
import { openProcess } from '../support/tiers';
import { storeContract } from '../../lib/testing';

let postgres: RunningPostgres;
let redis: RunningRedis;
beforeAll(async () => {
  [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
});
afterAll(() => Promise.all([postgres.stop(), redis.stop()]));

describe.each<[string, (ttl: number) => IdempotencyModuleOptions['redis']]>([
  ['with Redis', (ttl) => ({ ttl })],
  ['without Redis', () => false],
])('Tiered store %s', (_, redisOptions) => {
  storeContract({ describe, it, expect, beforeAll, afterAll }, async ({ retention }) => {
    const dataSource = await migrated(await postgres.createDatabase());
    // The shortest that options allow; the suite awaits what it needs.
    const period = Math.max(retention, 1_000);
    const options = { postgres: { retention: period }, redis: redisOptions(period) };
    const [one, other] = await Promise.all([1, 2].map(() => openProcess(dataSource, redis.url, options)));
    return {
      store: one!.store,
      another: other!.store,
      close: async () => {
        await Promise.all([one!.close(), other!.close()]);
        await dataSource.destroy();
      },
    };
  });
});
