import { startPostgres, type RunningPostgres } from '../../servers';
import { migrate, openInstance, type Instance } from '../support/postgres-store';
import { SEALS } from '../support/seals';
import { storeContract } from '../../lib/testing';

let postgres: RunningPostgres;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(() => postgres.stop());

describe.each(
  SEALS.flatMap(([sealing, cipher]) => [
    [`${sealing}, one table`, cipher, '015_idempotency_cache.sql'] as const,
    [`${sealing}, in partitions`, cipher, '015_idempotency_cache_partitioned.sql'] as const,
  ]),
)('Postgres: %s', (_, cipher, file) => {
  storeContract({ describe, it, expect, beforeAll, afterAll }, async ({ retention }) => {
    const url = await postgres.createDatabase();
    await migrate(url, file);
    const instances: Instance[] = [];
    const open = async () => {
      // A generous time-out: on a busy machine these tests are about answers, not about speed.
      const instance = await openInstance(url, { retention, timeout: 10_000, cipher });
      instances.push(instance);
      return instance.store;
    };
    return {
      store: await open(),
      another: await open(),
      close: async () => {
        await Promise.all(instances.map((instance) => instance.close()));
      },
    };
  });
});
