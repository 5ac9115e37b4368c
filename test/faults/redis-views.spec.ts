import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Chance } from './random/chance';
import { unleash, type Lane } from './random/nemesis';
import { client } from './random/traffic';
import type { Mode } from './rig/link';
import { Rig } from './rig/rig';

describe('instances see different stores: A only Postgres, B both, C only Redis', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start({ instances: ['postgres', 'both', 'both'] });
  });
  afterAll(() => rig.stop());
  beforeEach(() => rig.instance(2).postgres.set('refuse'));
  afterEach(async () => expect((await rig.verdict()).violations).toEqual([]));

  it('a new key: C refuses it (503) and runs nothing; A and B run it once between them', async () => {
    const key = randomUUID();
    const [a, b, c] = [rig.instance(0), rig.instance(1), rig.instance(2)];
    expect((await rig.send(c, key)).problem).toBe('store-unavailable');
    expect(rig.executions(key)).toEqual([]);
    const seen = await Promise.all(
      Array.from({ length: 40 }, (_, i) => rig.send([a, b][i % 2]!, key, { takes: 50 })),
    );
    expect(new Set(seen.map(({ nonce }) => nonce)).size).toBe(1);
    expect(rig.executions(key)).toHaveLength(1);
  });

  it('a key that A has answered: C does not know it (503) until B has read it, and then replays it', async () => {
    const key = randomUUID();
    const [a, b, c] = [rig.instance(0), rig.instance(1), rig.instance(2)];
    const { nonce } = await rig.sendUntilAnswered(a, key);
    expect((await rig.send(c, key)).problem).toBe('store-unavailable');
    const refilled = b.redis.watch('outcome', 'reply');
    expect((await rig.sendUntilAnswered(b, key)).nonce).toBe(nonce);
    await refilled.reached;
    expect((await rig.send(c, key)).nonce).toBe(nonce);
  });

  it('a key that B is at work on: C waits, and gets its answer from Redis', async () => {
    const key = randomUUID();
    const [b, c] = [rig.instance(1), rig.instance(2)];
    const hint = b.redis.watch('hint', 'reply');
    const first = rig.send(b, key, { hold: true });
    await hint.reached;
    const waits = rig.send(c, key);
    b.finish(key);
    expect((await waits).nonce).toBe((await first).nonce);
  });
});

describe('Redis flaps', () => {
  it('every 50 to 500 ms for a minute, for each process alone: nothing is executed twice', async () => {
    const seed = 5;
    const minute = 60_000;
    const rig = await Rig.start();
    try {
      const chance = new Chance(seed);
      const flap = (index: number): Lane => {
        const steps = [];
        for (let at = 0; at < minute;) {
          const lasts = chance.whole(50, 500);
          const mode: Mode = chance.one([
            'pass',
            'pass',
            'refuse',
            'reset',
            'black-hole',
            'drop-replies',
            'delay',
            'cut',
          ]);
          const inject = async (): Promise<void> => {
            await rig.instance(index).redis.set(mode, 30);
            await delay(lasts);
          };
          steps.push({ at, lasts, fault: `redis link of ${index}: ${mode}`, inject });
          at += lasts;
        }
        return steps;
      };
      const timeUp = AbortSignal.timeout(minute);
      const clients = [1, 2, 3, 4].map((n) => client(rig, seed + n * 1_000_003, `client-${n}`, timeUp));
      await Promise.all([unleash(rig, [0, 1, 2].map(flap), minute, () => undefined), ...clients]);
      const { violations, losses, faults, keys } = await rig.verdict();
      expect([violations, losses]).toEqual([[], []]);
      expect(faults).toBeGreaterThan(200);
      expect(keys).toBeGreaterThan(50);
    } finally {
      await rig.stop();
    }
  });
});
