import { randomUUID } from 'node:crypto';
import type { Ruling } from './rig/link';
import { Rig } from './rig/rig';

const SIDES = ['request', 'reply'] as const;
const RULINGS: readonly Ruling[] = ['lose', 'reset', 'cut', 'hold'];
/** The instance without Redis is the second one. */
const STORES = [
  ['with', 0],
  ['without', 1],
] as const;

type Point = [side: 'request' | 'reply', ruling: Ruling, redis: string, instance: number];
const POINTS: readonly Point[] = SIDES.flatMap((side) =>
  RULINGS.flatMap((ruling) => STORES.map(([redis, instance]): Point => [side, ruling, redis, instance])),
);
/** So long a message that is held stays away: longer than one round trip may take. */
const LATE = 1_500;

/*
 * "lose": neither it nor anything after it on this connection arrives; "reset" and "cut": the connection ends in its
 * place, or in its middle; "hold": it arrives after the round trip's deadline.
 */
describe('one message of a transaction is lost', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start({ instances: ['both', 'postgres', 'both'] });
  });
  afterAll(() => rig.stop());
  // Connections that have answered before, as in a process that has run for a while.
  beforeEach(() => Promise.all(rig.instances.map((one) => rig.sendUntilAnswered(one, randomUUID(), ROUTE))));

  const ROUTE = { route: 'transaction' } as const;

  describe.each([
    ['its begin', 'begin', [201, 503]],
    ['the effect of its handler', 'effect', [201, 500, 503]],
    ['its outcome with the commit', 'commit', [201, 503]],
  ] as const)('%s', (_, statement, statuses) => {
    it.each(POINTS)(
      'its %s by %s, %s Redis: the client is answered, at worst with an error, and the retry has one effect in all',
      async (side, ruling, __, index) => {
        const key = randomUUID();
        const owner = rig.instance(index);
        const lost = owner.postgres.watch(statement, side, ruling);
        const answered = rig.send(owner, key, ROUTE);
        await lost.reached;
        const late = setTimeout(() => lost.resume(), LATE);
        const first = await answered;
        expect(statuses).toContain(first.status);
        const retry = await rig.sendUntilAnswered(rig.instance(2), key, ROUTE);
        expect(retry.nonce).toBe(first.nonce ?? retry.nonce);
        expect((await rig.effects(key)).map(({ nonce }) => nonce)).toEqual([retry.nonce]);
        clearTimeout(late);
        lost.resume();
      },
    );
  });

  it.each(STORES)(
    'the commit between its outcome and itself, %s Redis: nothing of it is left, and the retry runs it',
    async (_, index) => {
      const key = randomUUID();
      const owner = rig.instance(index);
      const lost = owner.postgres.watch('commit', 'request', 'cut-before');
      const first = await rig.send(owner, key, ROUTE);
      await lost.reached;
      expect(first.status).toBe(503);
      expect(await rig.effects(key)).toEqual([]);
      const retry = await rig.sendUntilAnswered(rig.instance(2), key, ROUTE);
      expect((await rig.effects(key)).map(({ nonce }) => nonce)).toEqual([retry.nonce]);
    },
  );

  it.each(STORES)(
    'the commit, whose reply is lost, %s Redis: the client gets the answer that was committed',
    async (_, index) => {
      const key = randomUUID();
      const owner = rig.instance(index);
      const lost = owner.postgres.watch('commit', 'reply', 'reset');
      const first = await rig.send(owner, key, ROUTE);
      await lost.reached;
      expect(first.status).toBe(201);
      expect((await rig.effects(key)).map(({ nonce }) => nonce)).toEqual([first.nonce]);
      expect(rig.executions(key)).toHaveLength(1);
    },
  );

  it('and of all this, nothing has two effects, none is lost, and no request was left without an answer', async () => {
    const { violations, effects } = await rig.verdict();
    expect(violations).toEqual([]);
    expect(effects).toMatchObject({ doubled: 0, lost: 0 });
    expect(effects.keys).toBeGreaterThan(POINTS.length);
    expect(effects.effects).toBe(effects.keys);
  });
});
