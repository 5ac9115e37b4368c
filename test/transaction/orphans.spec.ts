import { randomUUID } from 'node:crypto';
import { isIdempotencyError } from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { sql } from '../support/database';
import { gate, type Gate } from '../support/gate';

/** A route that was leased before, while the first process still runs its old code. */
describe('an orphan of the leased mode that the transaction mode meets', () => {
  let postgres: RunningPostgres;
  let key: string;
  const apps: TestApp[] = [];
  const gates: Gate[] = [];
  const ending: Promise<unknown>[] = [];

  beforeAll(async () => {
    postgres = await startPostgres();
  });
  afterAll(async () => {
    for (const each of gates) each.open();
    await Promise.all(ending);
    for (const each of apps) await each.close();
    await postgres.stop();
  });

  const start = async (onOrphan: 'retry' | 'reject'): Promise<TestApp> => {
    const app = await startApp({ databaseUrl: postgres.url, options: { onOrphan } });
    apps.push(app);
    return app;
  };
  beforeEach(async () => {
    key = randomUUID();
    const { service } = await start('reject');
    const held = gate();
    gates.push(held);
    ending.push(service.execute(key, () => held.pass(), { lease: '1h' }).catch(() => undefined));
    await held.reached();
    const EXPIRE = `UPDATE idempotency_cache SET lease_until = now() - interval '1 s' WHERE state = 'in_progress'`;
    await sql(postgres.url, EXPIRE);
  });

  it.each([
    ['runs again by default', 'retry', 'ran'],
    ["stays refused where the module says 'reject'", 'reject', 'outcome_unknown'],
  ] as const)('%s', async (_, onOrphan, expected) => {
    const { service } = await start(onOrphan);
    const found = service.execute(key, () => 'ran', { transaction: true });
    const told = found.catch((error: unknown) => (isIdempotencyError(error) ? error.code : error));
    expect(await told).toBe(expected);
  });
});
