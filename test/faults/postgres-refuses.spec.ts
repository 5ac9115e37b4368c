import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import { Rig, type Route } from './rig/rig';

const STEPS = {
  claim: { when: 'BEFORE INSERT', condition: 'true' },
  completion: { when: 'BEFORE UPDATE', condition: `NEW.state = 'completed'` },
  heartbeat: { when: 'BEFORE UPDATE', condition: `NEW.state = 'in_progress'` },
  release: { when: 'BEFORE DELETE', condition: 'true' },
} as const;
type Step = keyof typeof STEPS;

const ROUTES = ['reject', 'retry'] as const;

describe('Postgres answers with an error', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start({
      instances: ['both', 'postgres', 'both'],
      postgresSettings: { max_connections: '40' },
    });
  });
  afterAll(() => rig.stop());
  beforeEach(() => Promise.all(rig.instances.map((one) => rig.sendUntilAnswered(one, randomUUID()))));
  afterEach(() => rig.heal());

  // Whatever the database's default is: it has to be ended, too.
  const administer = <Row>(text: string): Promise<Row[]> =>
    sql<Row>(`${rig.databaseUrl}?options=-c%20default_transaction_read_only%3Doff`, text);
  const settings = async (...statements: string[]): Promise<void> => {
    for (const statement of statements) await administer(statement);
    await rig.endSessions(); // the next ones have them
  };
  const open = async (): Promise<Client> => {
    const client = new Client({ connectionString: rig.databaseUrl });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  };

  const statistic = async (name: 'xact_rollback' | 'deadlocks'): Promise<number> =>
    (
      await administer<{ count: number }>(
        `SELECT ${name}::int AS count FROM pg_stat_database WHERE datname = current_database()`,
      )
    )[0]?.count ?? 0;
  const rollbacks = (): Promise<number> => statistic('xact_rollback');
  const deadlocks = (): Promise<number> => statistic('deadlocks');

  /** A trigger that fails this step so many times; a sequence counts, as it is never rolled back. */
  const failing = async (step: Step, state: string, times: number): Promise<() => Promise<void>> => {
    const { when, condition } = STEPS[step];
    await administer(`CREATE SEQUENCE failures;
      CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF ${condition} AND nextval('failures') <= ${times} THEN
          RAISE EXCEPTION 'told to fail' USING ERRCODE = '${state}';
        END IF;
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
      END $$;
      CREATE TRIGGER fail ${when} ON idempotency_cache FOR EACH ROW EXECUTE FUNCTION fail();`);
    return async () => {
      const [{ failed } = { failed: 0 }] = await administer<{ failed: number }>(
        `SELECT CASE WHEN is_called THEN last_value ELSE 0 END::int AS failed FROM failures`,
      );
      await administer('DROP TRIGGER fail ON idempotency_cache; DROP FUNCTION fail; DROP SEQUENCE failures');
      expect(failed).toBeGreaterThan(0);
    };
  };

  it.each(
    ROUTES.flatMap((route) =>
      (Object.keys(STEPS) as Step[]).flatMap((step) =>
        ['40001', '40P01'].map((state): [Route, Step, string] => [route, step, state]),
      ),
    ),
  )(
    'that says "once more" (%s, at the %s, %s): it is sent again, and the client sees nothing of it',
    async (route, step, state) => {
      for (const owner of [rig.instance(0), rig.instance(1)]) {
        const key = randomUUID();
        const repair = await failing(step, state, 2);
        const renewals = [1, 2, 3].map(() => owner.postgres.watch('renew', 'request'));
        const fails = step === 'release' ? { fails: 500 } : {};
        const first = rig.send(owner, key, { route, ...fails, hold: step === 'heartbeat' });
        if (step === 'heartbeat') await Promise.all(renewals.map(({ reached }) => reached));
        owner.finish(key);
        expect((await first).status).toBe(step === 'release' ? 500 : 201);
        await rig.sendUntilAnswered(rig.instance(2), key, { route });
        owner.postgres.unwatch();
        await repair();
        expect(rig.executions(key).filter(({ failed }) => !failed)).toHaveLength(1);
      }
    },
  );

  it.each(
    ROUTES.flatMap((route) =>
      ['53100', '53200', '58030', '55P03', '57014'].map((state): [Route, string] => [route, state]),
    ),
  )(
    'that says "not now" (%s, %s: disk, memory, lock): 503 for a new key, 201 that Redis has or 503 at the end; the retry gets it',
    async (route, state) => {
      for (const owner of [rig.instance(0), rig.instance(1)]) {
        const [unclaimed, finished] = [randomUUID(), randomUUID()];
        const mendClaim = await failing('claim', state, 1);
        const refused = await rig.send(owner, unclaimed, { route });
        expect([refused.problem, rig.executions(unclaimed)]).toEqual(['store-unavailable', []]);
        await mendClaim();
        const mendCompletion = await failing('completion', state, 1_000);
        const first = await rig.send(owner, finished, { route });
        expect(first.problem ?? first.status).toBe(owner.hasRedis ? 201 : 'outcome-not-recorded');
        await mendCompletion();
        for (const key of [unclaimed, finished]) {
          const retry = await rig.sendUntilAnswered(owner, key, { route });
          expect(rig.executions(key).map(({ nonce }) => nonce)).toEqual([retry.nonce]);
        }
      }
    },
  );

  it('"too many connections": 503 for new keys, replays from Redis go on, and it recovers without a restart', async () => {
    const [owner, known, unknown] = [rig.instance(0), randomUUID(), randomUUID()];
    const { nonce } = await rig.sendUntilAnswered(owner, known, { route: 'reject' });
    const fillers: Client[] = [];
    const fill = async (): Promise<void> => {
      for (;;) fillers.push(await open());
    };
    await expect(fill()).rejects.toMatchObject({ code: '53300' });
    const ours = fillers.map((one) => (one as Client & { processID: number }).processID);
    await fillers[0]?.query(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> ALL ($1)',
      [ours],
    );
    await eventually(() => expect(fill()).rejects.toMatchObject({ code: '53300' }));
    rig.faults.begin('postgres full');
    expect(await rig.send(owner, unknown, { route: 'reject' })).toMatchObject({
      problem: 'store-unavailable',
    });
    expect(await rig.send(owner, known, { route: 'reject' })).toMatchObject({ status: 201, nonce });
    await Promise.all(fillers.map((one) => one.end()));
    await rig.sendUntilAnswered(owner, unknown, { route: 'reject' });
    expect(rig.executions(unknown)).toHaveLength(1);
  });

  it.each(ROUTES)(
    '"read-only" (%s), as after a switch to a standby: 503 for new keys, replays from Redis go on, and it recovers without a restart',
    async (route) => {
      const [owner, known, running, unknown] = [rig.instance(0), randomUUID(), randomUUID(), randomUUID()];
      const { nonce } = await rig.sendUntilAnswered(owner, known, { route });
      const first = rig.send(owner, running, { route, hold: true });
      await owner.handling(running);
      const database = new URL(rig.databaseUrl).pathname.slice(1);
      await settings(`ALTER DATABASE ${database} SET default_transaction_read_only = on`);
      owner.finish(running);
      expect(await rig.send(owner, unknown, { route })).toMatchObject({ problem: 'store-unavailable' });
      expect(await rig.send(owner, known, { route })).toMatchObject({ status: 201, nonce });
      expect(await first).toMatchObject({ status: 201 });
      await settings(`ALTER DATABASE ${database} RESET default_transaction_read_only`);
      for (const key of [running, unknown]) {
        await rig.sendUntilAnswered(owner, key, { route });
        expect(rig.executions(key)).toHaveLength(1);
      }
    },
  );

  it.each(ROUTES)(
    '"serializable" is the database’s default (%s), and many keys are each sent by 15 clients at once: each runs once, at worst after a 503',
    async (route) => {
      const database = new URL(rig.databaseUrl).pathname.slice(1);
      await settings(`ALTER DATABASE ${database} SET default_transaction_isolation = 'serializable'`);
      const before = await rollbacks();
      const keys: string[] = [];
      // Whether two transactions are in each other's way is up to chance: until some were.
      await eventually(async () => {
        const wave = Array.from({ length: 20 }, () => randomUUID());
        keys.push(...wave);
        const seen = await Promise.all(
          wave.flatMap((key) =>
            Array.from({ length: 15 }, (_, i) => rig.send(rig.instance(i % 3), key, { route })),
          ),
        );
        for (const { problem, status } of seen)
          expect([201, 'store-unavailable']).toContain(problem ?? status);
        expect(await rollbacks()).toBeGreaterThan(before);
      }, 60_000);
      await settings(`ALTER DATABASE ${database} RESET default_transaction_isolation`);
      for (const key of keys) await rig.sendUntilAnswered(rig.instance(0), key, { route });
      for (const key of keys) expect(rig.executions(key)).toHaveLength(1);
    },
  );

  it.each(['lock_timeout', 'statement_timeout'])(
    'its role has a %s, and another transaction holds the row: 503, or 201 that Redis has; the retry gets the answer',
    async (timeout) => {
      await settings(`ALTER ROLE postgres SET ${timeout} = '100ms'`);
      for (const owner of [rig.instance(0), rig.instance(1)]) {
        const key = randomUUID();
        const first = rig.send(owner, key, { route: 'reject', hold: true });
        await owner.handling(key);
        const locker = await open();
        await locker.query('BEGIN');
        await locker.query('SELECT FROM idempotency_cache WHERE key = $1 FOR UPDATE', [key]);
        owner.finish(key);
        const { problem, status } = await first;
        expect(problem ?? status).toBe(owner.hasRedis ? 201 : 'outcome-not-recorded');
        await locker.end();
        const retry = await rig.sendUntilAnswered(owner, key, { route: 'reject' });
        expect(rig.executions(key).map(({ nonce }) => nonce)).toEqual([retry.nonce]);
      }
      await settings(`ALTER ROLE postgres RESET ${timeout}`);
    },
  );

  it('a heartbeat is the victim of a real deadlock: it is sent again, and the lease holds', async () => {
    await settings(`ALTER SYSTEM SET deadlock_timeout = '300ms'`, 'SELECT pg_reload_conf()');
    expect(await deadlocks()).toBe(0);
    const [owner, keys] = [rig.instance(0), [randomUUID(), randomUUID()]];
    const first = keys.map((key) => rig.send(owner, key, { route: 'reject', hold: true }));
    await Promise.all(keys.map((key) => owner.handling(key)));
    const [low, high] = await administer<{ id: string }>(
      `SELECT encode(id, 'hex') AS id FROM idempotency_cache WHERE state = 'in_progress' ORDER BY idempotency_cache.id`,
    );
    const locker = await open();
    await locker.query(`SET deadlock_timeout = '10s'`); // so that the heartbeat finds it first
    await locker.query('BEGIN');
    const lock = (row: { id: string } | undefined): Promise<unknown> =>
      locker.query(`SELECT FROM idempotency_cache WHERE id = decode($1, 'hex') FOR UPDATE`, [row?.id]);
    await lock(high);
    await owner.postgres.watch('renew', 'request').reached; // it locks the lower one, and waits for the higher
    await eventually(async () =>
      expect(await administer('SELECT FROM pg_locks WHERE NOT granted')).toHaveLength(1),
    );
    await lock(low); // granted once the heartbeat was ended
    await locker.end();
    // A session tells the server's statistics some time after what it has seen. The heartbeat may be back before the
    // locker has the row that it waits for, and be the victim once more.
    await eventually(async () => expect(await deadlocks()).toBeGreaterThan(0));
    const next = owner.postgres.watch('renew', 'reply');
    await next.reached;
    keys.forEach((key) => {
      owner.finish(key);
    });
    expect(new Set((await Promise.all(first)).map(({ status }) => status))).toEqual(new Set([201]));
    for (const key of keys) expect(rig.executions(key)).toHaveLength(1);
  });

  it('and of all this, nothing was executed twice or answered in two ways', async () => {
    expect((await rig.verdict()).violations).toEqual([]);
  });
});
