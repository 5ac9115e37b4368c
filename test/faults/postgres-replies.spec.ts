import { randomUUID } from 'node:crypto';
import type { Ruling } from './rig/link';
import { Rig, type Route } from './rig/rig';

const SIDES = ['request', 'reply'] as const;
const RULINGS: readonly Ruling[] = ['lose', 'reset', 'cut'];
/** The instance without Redis is the second one. */
const STORES = [
  ['with', 0],
  ['without', 1],
] as const;

type Point = [side: 'request' | 'reply', ruling: Ruling, redis: string, instance: number];
const POINTS: readonly Point[] = SIDES.flatMap((side) =>
  RULINGS.flatMap((ruling) => STORES.map(([redis, instance]): Point => [side, ruling, redis, instance])),
);
const BY_ROUTE = (['reject', 'retry'] as const).flatMap((route) =>
  POINTS.map((point): [Route, ...Point] => [route, ...point]),
);

/** The key whose first owner was killed while its handler ran, for this point. */
const orphanOf = (point: Point): string => `orphan-${point.join('-')}`;

/*
 * Each statement is a transaction of its own, so its reply is the word that it was committed. "lose": neither it nor
 * anything after it on this connection arrives; "reset" and "cut": the connection ends in its place, or in its middle.
 */
describe('one message to or from Postgres is lost', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start({ instances: ['both', 'postgres', 'both'] });
    const owner = rig.instance(2);
    for (const key of POINTS.map(orphanOf)) void rig.send(owner, key, { hold: true });
    await Promise.all(POINTS.map((point) => owner.handling(orphanOf(point))));
    owner.kill();
    await owner.gone();
    await owner.start();
  });
  afterAll(() => rig.stop());
  // Connections that have answered before, as in a process that has run for a while.
  beforeEach(() => Promise.all(rig.instances.map((one) => rig.sendUntilAnswered(one, randomUUID()))));

  it.each(BY_ROUTE)(
    'the claim (%s, its %s by %s, %s Redis): at worst 503 with nothing executed; the retry executes, once in all',
    async (route, side, ruling, _, index) => {
      const key = randomUUID();
      const lost = rig.instance(index).postgres.watch('claim', side, ruling);
      const first = await rig.send(rig.instance(index), key, { route });
      await lost.reached;
      expect([first.status, first.problem, rig.executions(key).length]).toEqual(
        first.status === 201 ? [201, undefined, 1] : [503, 'store-unavailable', 0],
      );
      const retry = await rig.sendUntilAnswered(rig.instance(2), key, { route });
      expect(retry.nonce).toBe(first.nonce ?? retry.nonce);
      expect(rig.executions(key)).toEqual([expect.objectContaining({ attempt: 1 })]);
    },
  );

  it.each(BY_ROUTE)(
    'the completion (%s, its %s by %s, %s Redis): the answer, or 503 where no store has it; the retry gets that answer',
    async (route, side, ruling, redis, index) => {
      const key = randomUUID();
      const lost = rig.instance(index).postgres.watch('complete', side, ruling);
      const first = await rig.send(rig.instance(index), key, { route });
      await lost.reached;
      const kept = redis === 'with' || ruling !== 'lose';
      expect([first.status, first.problem]).toEqual(kept ? [201, undefined] : [503, 'outcome-not-recorded']);
      const retry = await rig.sendUntilAnswered(rig.instance(2), key, { route });
      const [only, ...more] = rig.executions(key);
      expect([retry.nonce, first.nonce ?? retry.nonce, more]).toEqual([only?.nonce, only?.nonce, []]);
    },
  );

  it.each(POINTS)(
    'the release after a failure (its %s by %s, %s Redis): the client sees the failure, and its retry runs the handler anew',
    async (side, ruling, _, index) => {
      const key = randomUUID();
      const lost = rig.instance(index).postgres.watch('release', side, ruling);
      const first = await rig.send(rig.instance(index), key, { route: 'reject', fails: 500 });
      await lost.reached;
      expect(first.status).toBe(500);
      const retry = await rig.sendUntilAnswered(rig.instance(2), key, { route: 'reject' });
      expect(rig.executions(key).map(({ failed, nonce }) => (failed ? 'failed' : nonce))).toEqual([
        'failed',
        retry.nonce,
      ]);
    },
  );

  it.each((['forget', 'purge'] as const).flatMap((by) => POINTS.map((point) => [by, ...point] as const)))(
    'the deletion by an operator (%s, its %s by %s, %s Redis): what it says is what was done',
    async (by, side, ruling, _, index) => {
      const key = randomUUID();
      const first = await rig.sendUntilAnswered(rig.instance(index), key);
      const lost = rig.instance(index).postgres.watch('forget', side, ruling);
      const told = await rig.forget(rig.instance(index), key, { route: 'retry', by });
      await lost.reached;
      expect(told).toBe(ruling === 'lose' ? undefined : true);
      const next = await rig.sendUntilAnswered(rig.instance(2), key);
      const replayed = next.nonce === first.nonce;
      expect(replayed).toBe(ruling === 'lose' && side === 'request');
    },
  );

  it.each(POINTS)(
    'a heartbeat (its %s by %s, %s Redis): the next one keeps the lease, and a duplicate waits for the one answer',
    async (side, ruling, _, index) => {
      const key = randomUUID();
      const owner = rig.instance(index);
      const lost = owner.postgres.watch('renew', side, ruling);
      const next = owner.postgres.watch('renew', 'reply');
      const first = rig.send(owner, key, { route: 'reject', hold: true });
      await lost.reached;
      await next.reached;
      const duplicate = rig.send(rig.instance(2), key, { route: 'reject' });
      owner.finish(key);
      expect((await first).nonce).toBe((await duplicate).nonce);
      expect(rig.executions(key)).toEqual([expect.objectContaining({ nonce: (await first).nonce })]);
    },
  );

  it.each(POINTS)(
    'the take-over of a killed owner’s key (its %s by %s, %s Redis): at worst 503; the orphan stays one, and the handler runs once more in all',
    async (side, ruling, redis, index) => {
      const key = orphanOf([side, ruling, redis, index]);
      const lost = rig.instance(index).postgres.watch('take-over', side, ruling);
      const second = await rig.send(rig.instance(index), key);
      await lost.reached;
      const retry = await rig.sendUntilAnswered(rig.instance(2), key);
      expect([201, 503]).toContain(second.status);
      expect(retry.nonce).toBe(second.nonce ?? retry.nonce);
      const attempts = rig.executions(key).map(({ attempt }) => attempt);
      expect(attempts).toHaveLength(2);
      expect(attempts[1]).toBeGreaterThan(1);
    },
  );

  it('and of all this, nothing was executed twice or answered in two ways', async () => {
    expect((await rig.verdict()).violations).toEqual([]);
  });
});
