import { Pool } from 'pg';
import type { IdempotencyModuleOptions } from '../../lib';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { migrated } from '../support/database';
import { migrate } from '../support/postgres-store';
import { openProcess } from '../support/tiers';
import { storeContract } from '../../lib/testing';

let postgres: RunningPostgres;
let redis: RunningRedis;
beforeAll(async () => {
  [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
});
afterAll(() => Promise.all([postgres.stop(), redis.stop()]));

/** How an application reaches its database. */
const DATABASES = {
  'a DataSource': async (url: string) => {
    const dataSource = await migrated(url);
    return { database: dataSource, end: () => dataSource.destroy() };
  },
  'a pool': async (url: string) => {
    await migrate(url);
    const pool = new Pool({ connectionString: url, max: 1 });
    return { database: pool, end: () => pool.end() };
  },
};

describe.each<[string, keyof typeof DATABASES, (ttl: number) => IdempotencyModuleOptions['redis']]>([
  ['with Redis', 'a DataSource', (ttl) => ({ ttl })],
  ['without Redis', 'a DataSource', () => false],
  ['with Redis', 'a pool', (ttl) => ({ ttl })],
])('Tiered store %s, over %s', (_, reached, redisOptions) => {
  storeContract({ describe, it, expect, beforeAll, afterAll }, async ({ retention }) => {
    const { database, end } = await DATABASES[reached](await postgres.createDatabase());
    // The shortest that options allow; the suite awaits what it needs.
    const period = Math.max(retention, 1_000);
    const options = { postgres: { retention: period }, redis: redisOptions(period) };
    const [one, other] = await Promise.all([1, 2].map(() => openProcess(database, redis.url, options)));
    return {
      store: one!.store,
      another: other!.store,
      close: async () => {
        await Promise.all([one!.close(), other!.close()]);
        await end();
      },
    };
  });
});
