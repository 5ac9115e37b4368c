import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Ruling } from './rig/link';
import { Rig, type Route } from './rig/rig';

type Step = 'mget' | 'hint' | 'outcome' | 'removed';
const STEPS: readonly Step[] = ['mget', 'hint', 'outcome', 'removed'];
const RULINGS: readonly Ruling[] = ['lose', 'reset', 'cut'];
const POINTS = STEPS.flatMap((step) =>
  (['request', 'reply'] as const).flatMap((side) => RULINGS.map((ruling) => [step, side, ruling] as const)),
);
const DURATIONS = [100, 1_000, 10_000];
const ROUTES: readonly Route[] = ['reject', 'retry'];
const BY_ROUTE = ROUTES.flatMap((route) => DURATIONS.map((ms): [Route, number] => [route, ms]));

describe('one message to or from Redis is lost', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start();
  });
  afterAll(() => rig.stop());
  afterEach(async () => expect((await rig.verdict()).violations).toEqual([]));

  it.each(POINTS)('%s (its %s, by %s): clients notice nothing', async (step, side, ruling) => {
    const key = randomUUID();
    const [owner, other] = [rig.instance(0), rig.instance(1)];
    if (step === 'mget') await rig.expectRetries(owner);
    const lost = owner.redis.watch(step, side, ruling);
    const answer = rig.send(owner, key, {
      route: 'reject',
      ...(step === 'removed' ? { fails: 500 } : {}),
      hold: step === 'hint', // Redis is told only of a handler that has run for a while
    });
    await lost.reached;
    owner.finish(key);
    const first = await answer;
    expect(first.status).toBe(step === 'removed' ? 500 : 201);
    const retry = await rig.sendUntilAnswered(other, key, { route: 'reject' });
    expect(retry.nonce).toBe(first.nonce ?? retry.nonce);
    expect(rig.executions(key).filter(({ failed }) => !failed)).toHaveLength(1);
  });

  it.each(RULINGS)('the reading of a replay (its reply, by %s): Postgres gives it', async (ruling) => {
    const key = randomUUID();
    const first = await rig.sendUntilAnswered(rig.instance(0), key);
    const lost = rig.instance(1).redis.watch('mget', 'reply', ruling);
    const replay = await rig.send(rig.instance(1), key);
    await lost.reached;
    expect(replay.nonce).toBe(first.nonce);
  });

  it('a hint that comes after the outcome does not bury it', async () => {
    const key = randomUUID();
    const [owner, other] = [rig.instance(0), rig.instance(1)];
    const late = owner.redis.watch('hint', 'request', 'hold');
    const first = rig.send(owner, key, { hold: true });
    await late.reached;
    owner.finish(key);
    const { nonce } = await first;
    expect(typeof nonce).toBe('string');
    await rig.sendUntilAnswered(other, key); // refills Redis from Postgres
    late.resume();
    expect((await rig.sendUntilAnswered(rig.instance(2), key)).nonce).toBe(nonce);
  });
});

describe('Redis freezes (SIGSTOP), and what lay in its sockets runs late', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start();
  });
  afterAll(() => rig.stop());
  afterEach(async () => expect((await rig.verdict()).violations).toEqual([]));

  it.each(BY_ROUTE)('as it is asked for a new key (%s, for %i ms): Postgres decides', async (route, ms) => {
    const key = randomUUID();
    // Frozen before, Redis might never see it: it would wait in the client behind what is under way.
    await rig.expectRetries(rig.instance(0));
    const asked = rig.instance(0).redis.watch('mget', 'request', 'pass', { act: () => rig.freeze(rig.redis) }); // prettier-ignore
    const first = rig.send(rig.instance(0), key, { route });
    await asked.reached;
    const { nonce } = await first;
    const again = await rig.send(rig.instance(1), key, { route });
    expect([typeof nonce, again.nonce]).toEqual(['string', nonce]);
    await delay(ms);
    rig.thaw(rig.redis);
    expect((await rig.sendUntilAnswered(rig.instance(2), key, { route })).nonce).toBe(nonce);
    expect(rig.executions(key)).toHaveLength(1);
  });

  it.each(BY_ROUTE)(
    'before it hears of the claim (%s, for %i ms): duplicates wait anyway',
    async (route, ms) => {
      const key = randomUUID();
      const [owner, other] = [rig.instance(0), rig.instance(1)];
      const hint = owner.redis.watch('hint', 'request', 'pass', { act: () => rig.freeze(rig.redis) }); // prettier-ignore
      const first = rig.send(owner, key, { route, hold: true });
      await hint.reached;
      await owner.handling(key);
      const duplicate = rig.send(other, key, { route });
      await delay(ms);
      rig.thaw(rig.redis);
      owner.finish(key);
      const { nonce } = await first;
      expect(typeof nonce).toBe('string');
      const seen = await duplicate;
      expect(seen.nonce ?? seen.problem).toBe(ms < 10_000 ? nonce : 'in-flight'); // it waits for 5 s
      expect(rig.executions(key)).toHaveLength(1);
    },
  );

  it.each(BY_ROUTE)(
    'before it hears of the outcome (%s, for %i ms): the retry gets it',
    async (route, ms) => {
      const key = randomUUID();
      const owner = rig.instance(0);
      const outcome = owner.redis.watch('outcome', 'request', 'pass', { act: () => rig.freeze(rig.redis) }); // prettier-ignore
      const { nonce } = await rig.sendUntilAnswered(owner, key, { route });
      await outcome.reached;
      const during = await rig.send(rig.instance(1), key, { route });
      await delay(ms);
      rig.thaw(rig.redis);
      const after = await rig.sendUntilAnswered(rig.instance(2), key, { route });
      expect([during.nonce, after.nonce]).toEqual([nonce, nonce]);
      expect(rig.executions(key)).toHaveLength(1);
    },
  );
});
