import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import { call } from '../support/http';
import type { Instance } from './rig/instance';
import { Rig } from './rig/rig';

/** As many as TypeORM's pool has. */
const POOL = 10;
const ROUTE = { route: 'transaction' } as const;

describe('connections and transactions', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start();
  });
  afterAll(() => rig.stop());
  afterEach(async () => expect((await rig.verdict()).violations).toEqual([]));

  /** Transactions that are open, whatever they do. */
  const open = async (): Promise<number> =>
    (await sql(rig.databaseUrl, `SELECT FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()`)).length; // prettier-ignore
  const query = async (instance: Instance): Promise<number> =>
    (await call(`${instance.url}/query`, { method: 'GET' })).status;

  it('200 duplicates over three processes run the handler once, hold no connection, and leave other routes alone', async () => {
    const key = randomUUID();
    const owner = rig.instance(0);
    const first = rig.send(owner, key, { ...ROUTE, hold: true });
    await owner.handling(key);
    const duplicates = Array.from({ length: 200 }, (_, i) => rig.send(rig.instance(i % 3), key, ROUTE));
    let most = 0;
    // On a busy machine fewer: the handler has six seconds.
    const enough = performance.now() + 2_000;
    for (let asked = 0; asked < 100 && (asked < 6 || performance.now() < enough); asked++) {
      const instance = rig.instance(asked % 3);
      expect(await query(instance)).toBe(200);
      // One for the handler; those that look whether it has ended are there for a moment, one for each process.
      most = Math.max(most, await open());
    }
    expect(most).toBeGreaterThanOrEqual(1);
    expect(most).toBeLessThanOrEqual(1 + rig.instances.length);
    owner.finish(key);
    const seen = await Promise.all([first, ...duplicates]);
    expect(new Set(seen.map(({ status }) => status))).toEqual(new Set([201]));
    expect(new Set(seen.map(({ nonce }) => nonce)).size).toBe(1);
    expect(await rig.effects(key)).toHaveLength(1);
    expect(rig.executions(key)).toHaveLength(1);
  });

  it('more keys than connections at once: one connection is left to others, the rest queue, and each has one effect', async () => {
    const owner = rig.instance(0);
    const keys = Array.from({ length: 3 * POOL }, (): string => randomUUID());
    const first = keys.map((key) => rig.send(owner, key, { ...ROUTE, hold: true }));
    await eventually(async () => expect(await open()).toBe(POOL - 1));
    for (let asked = 0; asked < 20; asked++) expect(await query(owner)).toBe(200);
    expect(rig.executions().filter(({ key }) => keys.includes(key))).toHaveLength(POOL - 1);
    for (const key of keys) owner.finish(key);
    expect(new Set((await Promise.all(first)).map(({ status }) => status))).toEqual(new Set([201]));
    for (const key of keys) expect(await rig.effects(key)).toHaveLength(1);
  });

  it('handlers that each ask for a second connection join their own, so that a burst of them ends', async () => {
    const owner = rig.instance(0);
    const keys = Array.from({ length: 3 * POOL }, (): string => randomUUID());
    const seen = await Promise.all(
      keys.map((key) => rig.send(owner, key, { ...ROUTE, takes: 50, holdsConnection: true })),
    );
    expect(new Set(seen.map(({ status }) => status))).toEqual(new Set([201]));
    for (const key of keys) expect(await rig.effects(key)).toHaveLength(1);
  });

  it('all connections of the application are taken by others: 503 in time, nothing runs, and it recovers', async () => {
    const owner = rig.instance(0);
    // Handlers under leases that hold what they have.
    const holders = Array.from({ length: POOL }, () => randomUUID());
    const held = holders.map((key) => rig.send(owner, key, { hold: true, holdsConnection: true }));
    await Promise.all(holders.map((key) => owner.handling(key)));
    await eventually(async () => expect((await sessions()).length).toBeGreaterThanOrEqual(POOL));
    const keys = Array.from({ length: 5 }, () => randomUUID());
    const refused = await Promise.all(keys.map((key) => rig.send(owner, key, ROUTE)));
    expect(new Set(refused.map(({ status }) => status))).toEqual(new Set([503]));
    for (const key of keys) expect(rig.executions(key)).toEqual([]);
    // A recorded one, and another process, need none of them.
    for (const key of holders) owner.finish(key);
    await Promise.all(held);
    for (const key of keys) {
      await rig.sendUntilAnswered(owner, key, ROUTE);
      expect(await rig.effects(key)).toHaveLength(1);
    }
  });

  it('Postgres has no connection left: 503, nothing runs, and it recovers', async () => {
    const owner = rig.instance(0);
    const key = randomUUID();
    const fillers: Client[] = [];
    const fill = async (): Promise<void> => {
      for (;;) {
        const client = new Client({ connectionString: rig.databaseUrl });
        client.on('error', () => undefined);
        await client.connect();
        fillers.push(client);
      }
    };
    await expect(fill()).rejects.toMatchObject({ code: '53300' });
    rig.faults.begin('postgres full');
    // A session that is told to end keeps its place for a while.
    await eventually(async () => {
      const ours = fillers.map((one) => (one as Client & { processID: number }).processID);
      const others = await fillers[0]?.query(
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> ALL ($1)',
        [ours],
      );
      await expect(fill()).rejects.toMatchObject({ code: '53300' });
      expect(others?.rowCount).toBe(0);
    });
    expect(await rig.send(owner, key, ROUTE)).toMatchObject({ status: 503 });
    expect(rig.executions(key)).toEqual([]);
    await Promise.all(fillers.map((one) => one.end()));
    await rig.sendUntilAnswered(owner, key, ROUTE);
    expect(await rig.effects(key)).toHaveLength(1);
  });

  const sessions = (): Promise<unknown[]> =>
    sql(rig.databaseUrl, `SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`); // prettier-ignore
});
