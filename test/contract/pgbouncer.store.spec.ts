import { startPgBouncer, startPostgres, type RunningPostgres, type RunningServer } from '../../servers';
import { migrate, openInstance, type Instance } from '../support/postgres-store';
import { storeContract } from '../../lib/testing';

let postgres: RunningPostgres;
let pgbouncer: RunningServer;
beforeAll(async () => {
  postgres = await startPostgres();
  pgbouncer = await startPgBouncer(postgres.port);
});
afterAll(async () => {
  await pgbouncer.stop();
  await postgres.stop();
});

describe('Postgres behind pgbouncer in transaction mode', () => {
  storeContract({ describe, it, expect, beforeAll, afterAll }, async ({ retention }) => {
    const url = new URL(await postgres.createDatabase());
    await migrate(url.href);
    url.port = String(pgbouncer.port);
    const instances: Instance[] = [];
    const open = async () => {
      // A generous time-out: on a busy machine these tests are about answers, not about speed.
      const instance = await openInstance(url.href, { retention, timeout: 10_000 });
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
