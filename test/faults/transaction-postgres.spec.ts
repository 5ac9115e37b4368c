import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import type { Instance } from './rig/instance';
import type { Sighting } from './rig/oracle';
import { Rig, type Send } from './rig/rig';

const ROUTE = { route: 'transaction' } as const;

describe('Postgres fails under a transaction', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start({ instances: ['both', 'postgres', 'both'] });
    await sql(rig.databaseUrl, 'CREATE TABLE counter (id int PRIMARY KEY, n int NOT NULL)');
    await sql(rig.databaseUrl, 'INSERT INTO counter VALUES (1, 0), (2, 0)');
    await sql(
      rig.databaseUrl,
      'CREATE TABLE child (parent int REFERENCES counter DEFERRABLE INITIALLY DEFERRED)',
    );
  });
  afterAll(() => rig.stop());
  beforeEach(() => Promise.all(rig.instances.map((one) => rig.sendUntilAnswered(one, randomUUID(), ROUTE))));
  afterEach(async () => {
    const { violations, effects } = await rig.verdict();
    expect(violations).toEqual([]);
    expect(effects.keys).toBeGreaterThan(0);
  });

  const settings = async (...statements: string[]): Promise<void> => {
    for (const statement of statements) await sql(rig.databaseUrl, statement);
    await rig.endSessions(); // the next ones have them
  };
  /** Begins a request, and resolves when its handler has written its row and holds. */
  const begin = async (
    owner: Instance,
    key: string,
    send: Send = {},
  ): Promise<{ answer: Promise<Sighting> }> => {
    const written = owner.postgres.watch('effect', 'reply').reached;
    const answer = rig.send(owner, key, { ...ROUTE, hold: true, ...send });
    await owner.handling(key);
    await written;
    return { answer };
  };
  /** Nothing of the request is left; its retry has the one effect. */
  const isRepeatable = async (key: string, send: Send = ROUTE): Promise<void> => {
    rig.faults.happened('postgres rolled back');
    expect(await rig.effects(key)).toEqual([]);
    const retry = await rig.sendUntilAnswered(rig.instance(2), key, { route: send.route ?? 'transaction' });
    expect((await rig.effects(key)).map(({ nonce }) => nonce)).toEqual([retry.nonce]);
  };

  type Fault = [name: string, begin: (owner: Instance) => unknown, end: (owner: Instance) => unknown];
  const FAULTS: readonly Fault[] = [
    ['is killed', () => rig.kill(rig.postgres), () => rig.restart(rig.postgres)],
    ['is shut down', () => rig.kill(rig.postgres, 'SIGINT'), () => rig.restart(rig.postgres)],
    ['is frozen', () => rig.freeze(rig.postgres), () => rig.thaw(rig.postgres)],
    ['refuses connections', ({ postgres }) => postgres.set('refuse'), ({ postgres }) => postgres.set('pass')],
    ['is a black hole', ({ postgres }) => postgres.set('black-hole'), ({ postgres }) => postgres.set('pass')],
    ['gives no replies', ({ postgres }) => postgres.set('drop-replies'), ({ postgres }) => postgres.set('pass')],
  ]; // prettier-ignore

  it('does not answer a duplicate whether the transaction has ended: it gets the outcome from Redis', async () => {
    const key = randomUUID();
    const [owner, other] = [rig.instance(0), rig.instance(2)];
    const { answer } = await begin(owner, key);
    const asked = other.postgres.watch('is-free', 'request').reached;
    const duplicate = rig.send(other, key, ROUTE);
    await asked;
    await other.postgres.set('black-hole');
    owner.finish(key);
    const { nonce } = await answer;
    expect(await duplicate).toMatchObject({ status: 201, nonce });
    await other.postgres.set('pass');
    expect((await rig.effects(key)).map((row) => row.nonce)).toEqual([nonce]);
  });

  it.each(FAULTS)(
    '%s between the effect and the commit: the client gets 503, and one effect stands once its retry is answered',
    async (_, fail, recover) => {
      for (const owner of [rig.instance(0), rig.instance(1)]) {
        const key = randomUUID();
        const { answer } = await begin(owner, key);
        await fail(owner);
        owner.finish(key);
        expect((await answer).status).toBe(503);
        await recover(owner);
        const retry = await rig.sendUntilAnswered(rig.instance(2), key, ROUTE);
        expect((await rig.effects(key)).map(({ nonce }) => nonce)).toEqual([retry.nonce]);
      }
    },
  );

  it.each(FAULTS)('%s before it begins: 503, and no handler runs', async (_, fail, recover) => {
    for (const owner of [rig.instance(0), rig.instance(1)]) {
      const key = randomUUID();
      await fail(owner);
      expect(await rig.send(owner, key, ROUTE)).toMatchObject({ status: 503, problem: 'store-unavailable' });
      expect(rig.executions(key)).toEqual([]);
      await recover(owner);
      await isRepeatable(key);
    }
  });

  it('ends the session of a running handler: 503, and nothing of it is left', async () => {
    for (const owner of [rig.instance(0), rig.instance(1)]) {
      const key = randomUUID();
      const { answer } = await begin(owner, key);
      await rig.endSessions();
      owner.finish(key);
      expect((await answer).status).toBe(503);
      await isRepeatable(key);
    }
  });

  it.each([
    ['statement_timeout', { sql: ['SELECT pg_sleep(2)'] }, 500],
    ['idle_in_transaction_session_timeout', { takes: 1_500 }, 503],
    ['transaction_timeout', { takes: 1_500 }, 503],
  ] as const)(
    'has a %s that the handler exceeds: it is told so, and nothing of it is left',
    async (setting, work, status) => {
      await settings(`ALTER ROLE postgres SET ${setting} = '500ms'`);
      try {
        for (const owner of [rig.instance(0), rig.instance(1)]) {
          const key = randomUUID();
          expect((await rig.send(owner, key, { ...ROUTE, ...work })).status).toBe(status);
          await isRepeatable(key);
        }
      } finally {
        await settings(`ALTER ROLE postgres RESET ${setting}`);
      }
    },
  );

  it('has a lock_timeout, and another holds what the handler wants: it is told so, and nothing of it is left', async () => {
    await settings(`ALTER ROLE postgres SET lock_timeout = '200ms'`);
    const locker = new Client({ connectionString: rig.databaseUrl });
    await locker.connect();
    await locker.query('BEGIN');
    await locker.query('SELECT FROM counter WHERE id = 1 FOR UPDATE');
    const key = randomUUID();
    const seen = await rig.send(rig.instance(0), key, { ...ROUTE, sql: [add(1)] });
    await locker.end();
    await settings('ALTER ROLE postgres RESET lock_timeout');
    expect(seen.status).toBe(500);
    await isRepeatable(key);
  });

  it('finds that two cannot be serialized: one gets 503, and its retry the one effect', async () => {
    const [first, second] = [randomUUID(), randomUUID()];
    const [one, other] = [rig.instance(0), rig.instance(1)];
    const route = 'serializable';
    const { answer } = await begin(one, first, { route, sql: [add(1)] });
    await haveUpdated(1);
    // It waits for the row, in a snapshot from before the other's commit.
    const waits = rig.send(other, second, { route, sql: [add(1)] });
    await eventually(async () => expect(await waiting()).toBe(1));
    one.finish(first);
    expect((await answer).status).toBe(201);
    expect(await waits).toMatchObject({ status: 503, problem: 'transaction-conflict' });
    await isRepeatable(second, { route });
  });

  it('is used by three processes that cannot be serialized: all conflicts are told, and each key counts once in the end', async () => {
    const keys = Array.from({ length: 30 }, (): string => randomUUID());
    const [before] = await sql<{ n: number }>(rig.databaseUrl, 'SELECT n FROM counter WHERE id = 1');
    const send = { route: 'serializable', sql: [add(1)], takes: 5 } as const;
    rig.faults.begin('postgres rolled back');
    await Promise.all(
      keys.flatMap((key) =>
        rig.instances.map((one) => rig.sendUntil(one, key, send, ({ nonce }) => nonce !== undefined)),
      ),
    );
    rig.faults.end('postgres rolled back');
    const seen = rig.sightings.filter(({ key }) => keys.includes(key));
    expect(seen.map(({ problem }) => problem)).toContain('transaction-conflict');
    for (const key of keys) {
      const nonces = new Set(seen.filter((one) => one.key === key && one.nonce).map(({ nonce }) => nonce));
      expect((await rig.effects(key)).map(({ nonce }) => nonce)).toEqual([...nonces]);
    }
    const [after] = await sql<{ n: number }>(rig.databaseUrl, 'SELECT n FROM counter WHERE id = 1');
    expect(after!.n - before!.n).toBe(keys.length);
  });

  it('finds a deadlock: one of the two gets 503, and its retry the one effect', async () => {
    const keys = [randomUUID(), randomUUID()] as const;
    const [one, other] = [rig.instance(0), rig.instance(1)];
    const { answer: first } = await begin(one, keys[0], { sql: [add(1)], then: [add(2)] });
    const { answer: second } = await begin(other, keys[1], { sql: [add(2)], then: [add(1)] });
    await haveUpdated(2);
    one.finish(keys[0]);
    other.finish(keys[1]);
    const seen = [await first, await second];
    expect(seen.map(({ status }) => status).sort()).toEqual([201, 503]);
    const victim = seen.find(({ status }) => status === 503);
    expect(victim?.problem).toBe('transaction-conflict');
    await isRepeatable(victim?.key ?? '');
  });

  it('finds a broken constraint at the commit: 500, and nothing of it is left', async () => {
    const key = randomUUID();
    const seen = await rig.send(rig.instance(0), key, { ...ROUTE, sql: ['INSERT INTO child VALUES (99)'] });
    expect(seen.status).toBe(500);
    await isRepeatable(key);
  });

  it('answered a statement with an error that the handler swallowed: 500, and nothing of it is left', async () => {
    const key = randomUUID();
    const work = { sql: ['SELECT 1 / 0'], swallows: true };
    const seen = await rig.send(rig.instance(0), key, { ...ROUTE, ...work });
    expect(seen).toMatchObject({ status: 500, problem: 'transaction-broken' });
    await isRepeatable(key);
  });

  it.each([['COMMIT'], ['COMMIT; BEGIN'], ['ROLLBACK'], ['ROLLBACK; BEGIN']])(
    'is told to %s by the handler: 500, and no record of it',
    async (...statements) => {
      const key = randomUUID();
      const work = { sql: statements.flatMap((text) => text.split('; ')), effect: 'none' } as const;
      const seen = await rig.send(rig.instance(0), key, { ...ROUTE, ...work });
      expect(seen).toMatchObject({ status: 500, problem: 'transaction-broken' });
      await isRepeatable(key);
    },
  );

  it.each([409, 404])(
    'is told to record a refusal (%i): the handler’s row is rolled back, and the refusal replayed',
    async (fails) => {
      for (const owner of [rig.instance(0), rig.instance(1)]) {
        const key = randomUUID();
        const first = await rig.send(owner, key, { ...ROUTE, fails });
        expect(first).toMatchObject({ status: fails, problem: undefined });
        expect(await rig.effects(key)).toEqual([]);
        expect(await rig.send(rig.instance(2), key, ROUTE)).toMatchObject({
          status: fails,
          refused: first.refused,
        });
        expect(rig.executions(key)).toHaveLength(1);
      }
    },
  );

  it.each([500, 429])('is told to forget a failure (%i): nothing of it is left', async (fails) => {
    const key = randomUUID();
    expect((await rig.send(rig.instance(0), key, { ...ROUTE, fails })).status).toBe(fails);
    await isRepeatable(key);
  });

  it('is asked for too long by a handler: 503 at its time-out, and nothing of it is left, whatever it does then', async () => {
    const key = randomUUID();
    const owner = rig.instance(0);
    const { answer } = await begin(owner, key, { effect: 'first', then: [add(1)] });
    expect(await answer).toMatchObject({ status: 503, problem: 'transaction-timeout' });
    await isRepeatable(key);
    const before = await sql(rig.databaseUrl, 'SELECT n FROM counter WHERE id = 1');
    owner.finish(key);
    await rig.sendUntilAnswered(owner, randomUUID(), ROUTE);
    expect(await sql(rig.databaseUrl, 'SELECT n FROM counter WHERE id = 1')).toEqual(before);
    expect(await rig.effects(key)).toHaveLength(1);
  });

  /** Resolves when so many handlers have sent their first update, which follows their row, and hold. */
  const haveUpdated = (handlers: number): Promise<void> =>
    eventually(async () => expect(await sql(rig.databaseUrl, UPDATED)).toHaveLength(handlers));
  const waiting = async (): Promise<number> =>
    (await sql(rig.databaseUrl, 'SELECT FROM pg_locks WHERE NOT granted')).length;
});

const add = (row: number): string => `UPDATE counter SET n = n + 1 WHERE id = ${row}`;
const UPDATED = `SELECT FROM pg_stat_activity
  WHERE datname = current_database() AND state = 'idle in transaction' AND query LIKE 'UPDATE counter%'`;
