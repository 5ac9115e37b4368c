import { randomUUID } from 'node:crypto';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import type { Instance } from './rig/instance';
import type { Ruling } from './rig/link';
import type { Sighting } from './rig/oracle';
import { Rig } from './rig/rig';

type Point = [when: string, statement: string, side: 'request' | 'reply', ruling: Ruling, executions: number];

const POINTS: readonly Point[] = [
  ['before its transaction begins', 'begin', 'request', 'reset', 1],
  ['before it hears that it has begun', 'begin', 'reply', 'reset', 1],
  ['before its effect reaches Postgres', 'effect', 'request', 'reset', 2],
  ['before it hears of its effect', 'effect', 'reply', 'reset', 2],
  ['before its outcome reaches Postgres', 'insert-completed', 'request', 'reset', 2],
  ['between its outcome and the commit', 'commit', 'request', 'cut-before', 2],
  ['when it has committed, before it hears so', 'commit', 'reply', 'reset', 1],
];

describe('a process is killed (SIGKILL) in a transaction', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start();
  });
  afterAll(() => rig.stop());
  beforeEach(() => Promise.all(rig.instances.map((one) => rig.sendUntilAnswered(one, randomUUID(), ROUTE))));
  afterEach(async () => expect((await rig.verdict()).violations).toEqual([]));

  const ROUTE = { route: 'transaction' } as const;
  const onceWith = async (key: string, nonce: string | undefined): Promise<void> => {
    expect((await rig.effects(key)).map((row) => row.nonce)).toEqual([nonce]);
  };

  it.each(POINTS)(
    '%s: the same request to another process is answered at once, with one effect in all',
    async (_, statement, side, ruling, executions) => {
      const key = randomUUID();
      const [owner, other] = [rig.instance(0), rig.instance(1)];
      const killed = owner.postgres.watch(statement, side, ruling, { act: () => owner.kill() });
      const lost = rig.send(owner, key, ROUTE);
      await killed.reached;
      expect((await lost).status).toBeUndefined();
      const retry = await rig.send(other, key, ROUTE);
      expect(retry).toMatchObject({ status: 201 });
      await onceWith(key, retry.nonce);
      expect(rig.executions(key)).toHaveLength(executions);
    },
  );

  describe.each(['first', 'last'] as const)('in its handler, whose effect comes %s', (effect) => {
    const begin = async (owner: Instance, key: string): Promise<{ lost: Promise<Sighting> }> => {
      const written = owner.postgres.watch('effect', 'reply').reached;
      const lost = rig.send(owner, key, { ...ROUTE, effect, hold: true });
      await owner.handling(key);
      if (effect === 'first') await written;
      return { lost };
    };

    it('the same request to another process is answered at once: it waits for no lease', async () => {
      const key = randomUUID();
      const { lost } = await begin(rig.instance(0), key);
      rig.instance(0).kill();
      expect((await lost).status).toBeUndefined();
      const retry = await rig.send(rig.instance(1), key, ROUTE);
      expect(retry).toMatchObject({ status: 201 });
      await onceWith(key, retry.nonce);
      expect(rig.executions(key)).toHaveLength(2);
    });

    it('of those that wait in two other processes one runs it once more, and all get its answer', async () => {
      const key = randomUUID();
      const [owner, ...others] = rig.instances;
      const { lost } = await begin(owner!, key);
      const waiting = Promise.all(
        Array.from({ length: 20 }, (_, i) => rig.send(others[i % 2]!, key, { ...ROUTE, takes: 50 })),
      );
      owner!.kill();
      expect((await lost).status).toBeUndefined();
      const seen = await waiting;
      expect(new Set(seen.map(({ status }) => status))).toEqual(new Set([201]));
      expect(new Set(seen.map(({ nonce }) => nonce)).size).toBe(1);
      await onceWith(key, seen[0]?.nonce);
      expect(rig.executions(key)).toHaveLength(2);
    });
  });

  it('with its host, so that Postgres hears nothing of it: its key is free after the time-out of the transaction', async () => {
    const key = randomUUID();
    const owner = rig.instance(0);
    const lost = rig.send(owner, key, { ...ROUTE, hold: true });
    await owner.handling(key);
    await owner.postgres.set('black-hole');
    owner.kill();
    await lost;
    const retry = await rig.sendUntilAnswered(rig.instance(1), key, ROUTE);
    await onceWith(key, retry.nonce);
    expect(rig.executions(key)).toHaveLength(2);
  });

  it('with its host, while a statement of its handler runs: its key is free once that and the transaction have timed out', async () => {
    const key = randomUUID();
    const owner = rig.instance(0);
    const written = owner.postgres.watch('effect', 'reply').reached;
    const lost = rig.send(owner, key, { ...ROUTE, sql: ['SELECT pg_sleep(600)'] });
    await written;
    const sleeping = `SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()`;
    await eventually(async () => expect(await sql(rig.databaseUrl, sleeping)).toHaveLength(1));
    await owner.postgres.set('black-hole');
    owner.kill();
    await lost;
    const retry = await rig.sendUntilAnswered(rig.instance(1), key, ROUTE);
    await onceWith(key, retry.nonce);
    expect(await sql(rig.databaseUrl, sleeping)).toEqual([]);
  });

  it('frozen in its handler for longer than its transaction may take: what it does then has no effect', async () => {
    const key = randomUUID();
    const owner = rig.instance(0);
    const first = rig.send(owner, key, { ...ROUTE, hold: true });
    await owner.handling(key);
    owner.freeze();
    // Its connection is alive, so others wait for it: they are told so, and nothing runs twice.
    const meanwhile = await rig.send(rig.instance(1), key, ROUTE);
    expect(meanwhile.problem).toBe('in-flight');
    owner.thaw();
    owner.finish(key);
    const [seen, retry] = [await first, await rig.sendUntilAnswered(rig.instance(2), key, ROUTE)];
    expect(seen.nonce ?? retry.nonce).toBe(retry.nonce);
    await onceWith(key, retry.nonce);
  });
});
