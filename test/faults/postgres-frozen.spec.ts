import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import { Rig, type Route } from './rig/rig';

const DURATIONS = [100, 1_000, 10_000];
const POINTS = (['reject', 'retry'] as const).flatMap((route) =>
  DURATIONS.map((ms): [Route, number] => [route, ms]),
);

/*
 * SIGSTOP for a lease's third, for a time-out, and for three leases; then SIGCONT, and what lay in Postgres' sockets
 * runs, late. Each time once on an instance with Redis and once on one without.
 */
describe('Postgres freezes', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start({ instances: ['both', 'postgres', 'both'] });
  });
  afterAll(() => rig.stop());
  beforeEach(() => Promise.all(rig.instances.map((one) => rig.sendUntilAnswered(one, randomUUID()))));
  afterEach(async () => expect((await rig.verdict()).violations).toEqual([]));

  it.each(POINTS)(
    'as a claim comes (%s, for %s ms): at worst 503 with nothing executed, now or later; the retry executes, once in all',
    async (route, ms) => {
      const keys = [randomUUID(), randomUUID()] as const;
      const owners = [rig.instance(0), rig.instance(1)] as const;
      const claims = owners.map(({ postgres }) => postgres.watch('claim', 'request'));
      rig.freeze(rig.postgres);
      const first = Promise.all(keys.map((key, i) => rig.send(owners[i]!, key, { route })));
      // A connection whose plans are old drops them first, and meets the freeze with that.
      await Promise.race([Promise.all(claims.map(({ reached }) => reached)), first]);
      await delay(ms);
      rig.thaw(rig.postgres);
      for (const [i, { nonce, problem }] of (await first).entries()) {
        const executed = rig.executions(keys[i]).map((one) => one.nonce);
        expect([problem, executed]).toEqual(nonce ? [undefined, [nonce]] : ['store-unavailable', []]);
      }
      for (const key of keys) {
        await rig.sendUntilAnswered(rig.instance(2), key, { route });
        expect(rig.executions(key)).toHaveLength(1);
      }
    },
  );

  it.each(POINTS)(
    'while a handler runs (%s, for %s ms): it ends, its answer is recorded once Postgres is back, and the retry gets it',
    async (route, ms) => {
      const keys = [randomUUID(), randomUUID()] as const;
      const owners = [rig.instance(0), rig.instance(1)] as const;
      const first = keys.map((key, i) => rig.send(owners[i]!, key, { route, hold: true }));
      await Promise.all(keys.map((key, i) => owners[i]!.handling(key)));
      rig.freeze(rig.postgres);
      await delay(ms);
      keys.forEach((key, i) => owners[i]!.finish(key));
      if (ms > 3_000) await Promise.all(first); // the completion is given up first
      rig.thaw(rig.postgres);
      for (const [i, { status, problem }] of (await Promise.all(first)).entries()) {
        expect([201, 'outcome-not-recorded']).toContain(problem ?? status);
        const retry = await rig.sendUntilAnswered(owners[i]!, keys[i]!, { route });
        expect(rig.executions(keys[i]).map(({ nonce }) => nonce)).toEqual([retry.nonce]);
      }
    },
  );

  it.each(POINTS)(
    'as a completion comes (%s, for %s ms): the answer, or 503 where no store has it; the retry gets that answer',
    async (route, ms) => {
      const keys = [randomUUID(), randomUUID()] as const;
      const owners = [rig.instance(0), rig.instance(1)] as const;
      const first = keys.map((key, i) => rig.send(owners[i]!, key, { route, hold: true }));
      await Promise.all(keys.map((key, i) => owners[i]!.handling(key)));
      const completions = owners.map(({ postgres }) => postgres.watch('complete', 'request'));
      rig.freeze(rig.postgres);
      keys.forEach((key, i) => owners[i]!.finish(key));
      await Promise.race([Promise.all(completions.map(({ reached }) => reached)), Promise.all(first)]);
      await delay(ms);
      rig.thaw(rig.postgres);
      const [kept, alone] = await Promise.all(first);
      expect(kept?.status).toBe(201);
      expect([201, 'outcome-not-recorded']).toContain(alone?.problem ?? alone?.status);
      for (const [i, key] of keys.entries()) {
        const retry = await rig.sendUntilAnswered(owners[i]!, key, { route });
        expect(rig.executions(key).map(({ nonce }) => nonce)).toEqual([retry.nonce]);
      }
    },
  );

  /** README's limit: only the sessions freeze, so the claim is given back by another one before it runs at all. */
  it.each<[Route, unknown, number]>([
    ['reject', 'outcome-unknown', 0],
    ['retry', 201, 1],
  ])(
    'in its sessions alone, and runs a claim after it was given back (%s): no handler runs under it; its retry gets %s',
    async (route, expected, executions) => {
      const key = randomUUID();
      const owner = rig.instance(1);
      const sessions = await sql<{ pid: number }>(
        rig.databaseUrl,
        `SELECT pid FROM pg_stat_activity WHERE application_name LIKE '%idempotency'`,
      );
      for (const { pid } of sessions) process.kill(pid, 'SIGSTOP');
      const givenBack = owner.postgres.watch('abandon', 'reply');
      const first = await rig.send(owner, key, { route });
      await givenBack.reached;
      for (const { pid } of sessions) process.kill(pid, 'SIGCONT');
      expect(first.problem).toBe('store-unavailable');
      await eventually(async () => {
        const [ghost] = await sql(rig.databaseUrl, 'SELECT FROM idempotency_cache WHERE key = $1', [key]);
        expect(ghost).toBeDefined();
      });
      const { problem, status } = await rig.send(rig.instance(2), key, { route });
      expect([problem ?? status, rig.executions(key).length]).toEqual([expected, executions]);
    },
  );
});
