import fc from 'fast-check';
import { Lanes } from '../../../lib/store/batching/lanes';
import { LANE, laneLimits } from '../../../lib/store/postgres/connection/turns';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('the lanes to Postgres', () => {
  it.each([
    [2, 1],
    [3, 1],
    [4, 2],
    [10, 8],
  ])('of %i connections give %i to claims at most', (poolSize, most) => {
    const lanes = new Lanes(laneLimits(poolSize));
    let inside = 0;
    while (!lanes.enter(LANE.claims)) inside++;
    expect(inside).toBe(most);
    expect(lanes.enter(LANE.outcomes)).toBeUndefined();
  });

  it('let renewals in past claims and outcomes that wait', async () => {
    const lanes = new Lanes(laneLimits(2));
    expect([lanes.enter(LANE.claims), lanes.enter(LANE.outcomes)]).toEqual([undefined, undefined]);
    const order: string[] = [];
    for (const name of ['claims', 'outcomes', 'renewals'] as const)
      void lanes.enter(LANE[name])?.entered.then(() => order.push(name));
    lanes.leave(LANE.outcomes);
    await turn();
    expect(order).toEqual(['renewals']);
    lanes.leave(LANE.renewals);
    await turn();
    expect(order).toEqual(['renewals', 'outcomes']);
  });

  it('let claims past reads, however many of these wait', async () => {
    const lanes = new Lanes(laneLimits(4));
    expect([lanes.enter(LANE.reads), lanes.enter(LANE.reads)]).toEqual([undefined, undefined]);
    const order: string[] = [];
    for (let read = 0; read < 500; read++)
      void lanes.enter(LANE.reads)?.entered.then(() => order.push('read'));
    void lanes.enter(LANE.claims)?.entered.then(() => order.push('claim'));
    lanes.leave(LANE.reads);
    await turn();
    expect(order).toEqual(['claim']);
    lanes.leave(LANE.claims);
    await turn();
    expect(order).toEqual(['claim', 'read']);
  });

  it('keep one of three or more connections free for renewals, whatever else waits', () => {
    const lanes = new Lanes(laneLimits(4));
    for (let i = 0; i < 10; i++) {
      lanes.enter(LANE.outcomes);
      lanes.enter(LANE.claims);
    }
    expect(lanes.enter(LANE.renewals)).toBeUndefined();
  });

  it('get back the place of one that gave up as it was let in', () => {
    const lanes = new Lanes([1]);
    expect(lanes.enter(0)).toBeUndefined();
    const queued = lanes.enter(0);
    lanes.leave(0); // lets it in, of which it has not heard yet
    queued!.giveUp();
    expect(lanes.enter(0)).toBeUndefined();
  });

  it('never hold more than there is, lose no place, and let in all that can be', async () => {
    const acts = fc.array(fc.record({ lane: fc.nat(3), act: fc.constantFrom('enter', 'leave', 'give up') }), {
      maxLength: 80,
    });
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 2, max: 6 }), acts, async (poolSize, list) => {
        const limits = laneLimits(poolSize);
        const lanes = new Lanes(limits);
        const inside = [0, 0, 0, 0];
        const waiting: { lane: number; in: boolean; giveUp: () => void }[] = [];
        for (const { lane, act } of list) {
          if (act === 'enter') {
            const queued = lanes.enter(lane);
            if (!queued) inside[lane]!++;
            else {
              const one = { lane, in: false, giveUp: queued.giveUp };
              waiting.push(one);
              void queued.entered.then(() => (one.in = true));
            }
          } else if (act === 'leave' && inside[lane]! > 0) {
            inside[lane]!--;
            lanes.leave(lane);
          } else if (act === 'give up') {
            const at = waiting.findIndex((one) => one.lane === lane);
            if (at >= 0) waiting.splice(at, 1)[0]!.giveUp();
          }
          await turn();
          for (const one of waiting.filter((each) => each.in)) {
            inside[one.lane]!++;
            waiting.splice(waiting.indexOf(one), 1);
          }
          limits.forEach((limit, first) =>
            expect(inside.slice(first).reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(limit),
          );
        }
        // When all have left, all of it can be had again.
        for (const one of waiting.splice(0)) one.giveUp();
        inside.forEach((count, lane) => {
          for (let i = 0; i < count; i++) lanes.leave(lane);
        });
        for (let i = 0; i < poolSize; i++) expect(lanes.enter(LANE.renewals)).toBeUndefined();
      }),
      { numRuns: 300 },
    );
  });
});
