import { randomUUID } from 'node:crypto';
import { CREATE_MARK } from '../fixtures/marks';
import { sql } from '../support/database';
import type { Instance } from './rig/instance';
import { Rig, type Route, type Send } from './rig/rig';

interface Point {
  readonly when: string;
  /** Sends a request, and kills its process at that very moment. */
  readonly kill: (owner: Instance, key: string, route: Route) => Promise<void>;
}

interface Order {
  readonly order: string;
  readonly route: Route;
  readonly points: readonly Point[];
}

/** What became of the keys of one order; each was sent to one process, and again to another after the kill. */
interface Count {
  readonly kills: number;
  /** Keys that got a 2xx in the end. */
  readonly answered: number;
  readonly effects: number;
  /** Keys without an effect, though answered. */
  readonly lost: number;
  /** Effects beyond the first of a key. */
  readonly doubled: number;
}

describe('a process is killed at every point of a request', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start();
    await sql(rig.databaseUrl, CREATE_MARK);
  });
  afterAll(() => rig.stop());

  const at = (when: string, statement: string, side: 'request' | 'reply'): Point => ({
    when,
    kill: async (owner, key, route) => {
      const { reached } = owner.postgres.watch(statement, side, 'reset', { act: () => owner.kill() });
      const lost = rig.send(owner, key, { route });
      await reached;
      await lost;
    },
  });
  const within = (when: string, effect: Send['effect']): Point => ({
    when,
    kill: async (owner, key, route) => {
      const written = owner.postgres.watch('effect', 'reply').reached;
      const lost = rig.send(owner, key, { route, effect, hold: true });
      await owner.handling(key);
      if (effect === 'first') await written;
      owner.kill();
      await lost;
    },
  });
  const HANDLER: readonly Point[] = [
    within('in the handler, before its effect', 'last'),
    at('before the effect reaches Postgres', 'effect', 'request'),
    at('before the handler hears of its effect', 'effect', 'reply'),
    within('in the handler, after its effect', 'first'),
  ];
  const ORDERS: readonly Order[] = [
    {
      order: 'record first',
      route: 'record-first',
      points: [
        at('before the mark reaches Postgres', 'mark', 'request'),
        at('before the mark is heard of', 'mark', 'reply'),
        ...HANDLER,
      ],
    },
    {
      order: 'record last',
      route: 'record-last',
      points: [
        at('before the key is looked for', 'find-mark', 'request'),
        at('before the key is known to be new', 'find-mark', 'reply'),
        ...HANDLER,
        at('before the record reaches Postgres', 'mark', 'request'),
        at('before the record is heard of', 'mark', 'reply'),
      ],
    },
    {
      order: 'transaction',
      route: 'transaction',
      points: [
        at('before it has begun', 'begin', 'request'),
        at('before it is known to have begun', 'begin', 'reply'),
        ...HANDLER,
        at('before the commit reaches Postgres', 'commit', 'request'),
        at('before the commit is heard of', 'commit', 'reply'),
      ],
    },
  ];

  /** Kills a process at each point, asks another one until there is an answer, and counts what is left. */
  const count = async ({ route, points }: Order): Promise<Count> => {
    const keys: string[] = [];
    let answered = 0;
    for (const [index, { kill }] of points.entries()) {
      const key = randomUUID();
      const [owner, other] = [rig.instance(index % 3), rig.instance((index + 1) % 3)];
      await rig.send(owner, randomUUID(), { route }); // connections that have answered before
      await kill(owner, key, route);
      keys.push(key);
      const { status } = await rig.sendUntil(other, key, { route }, (seen) => seen.status === 201);
      if (status === 201) answered++;
      await owner.gone();
      await owner.start();
    }
    const effects = (await rig.effects()).map(({ key }) => key);
    const of = keys.map((key) => effects.filter((each) => each === key).length);
    return {
      kills: keys.length,
      answered,
      effects: of.reduce((sum, each) => sum + each, 0),
      lost: of.filter((each) => each === 0).length,
      doubled: of.reduce((sum, each) => sum + Math.max(0, each - 1), 0),
    };
  };

  it('record first loses effects, record last doubles them, and a transaction does neither', async () => {
    const counts: Record<string, Count> = {};
    for (const order of ORDERS) counts[order.order] = await count(order);
    console.table(counts);
    for (const [order, { kills, answered, effects }] of Object.entries(counts)) {
      expect([order, kills]).toEqual([order, ORDERS.find((one) => one.order === order)?.points.length]);
      expect(kills).toBeGreaterThanOrEqual(6);
      expect([order, answered]).toEqual([order, kills]);
      expect(effects).toBeGreaterThan(0);
    }
    expect(counts).toMatchObject({
      // Between its mark and its effect: heard of the mark, in the handler, the effect on its way.
      'record first': { lost: 3, doubled: 0 },
      // Between its effect and its record: heard of the effect, in the handler, the record on its way.
      'record last': { lost: 0, doubled: 3 },
      transaction: { lost: 0, doubled: 0, effects: counts.transaction?.kills },
    });
  });
});
