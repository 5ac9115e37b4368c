import fc from 'fast-check';
import { recordId, type RecordId } from '../../lib/core/record';
import { ClaimOrder } from '../../lib/store/claim-order';

jest.mock('node:perf_hooks', () => ({ performance: { now: () => globalThis.performance.now() } }));

let keys = 0;
const newKey = (): RecordId => recordId('test', String(keys++));

describe('Redis is read before the claim', () => {
  let order: ClaimOrder;
  beforeEach(() => {
    order = new ClaimOrder();
  });
  const retries = (count: number): void => {
    for (let n = 0; n < count; n++) order.found(newKey());
  };
  const firstRequests = (count: number): void => {
    for (let n = 0; n < count; n++) order.foundNone(newKey());
  };

  it('not for a key of which this process knows nothing, nor as it starts', () => {
    expect(order.readsFirst(newKey())).toBe(false);
  });

  it('for a key that was recorded here, or found to be, and for no other', () => {
    const [recorded, found] = [newKey(), newKey()];
    order.record(recorded);
    order.found(found);
    expect([recorded, found, newKey()].map((key) => order.readsFirst(key))).toEqual([true, true, false]);
  });

  it('for a key that is asked for again and again, however many others come meanwhile', () => {
    const key = newKey();
    order.record(key);
    for (let n = 0; n < 20_000; n++) {
      order.record(newKey());
      if (n % 1_000 === 0) expect(order.readsFirst(key)).toBe(true);
    }
  });

  it('no longer for a key after 8,192 others: the memory is bounded', () => {
    const key = newKey();
    order.record(key);
    for (let n = 0; n < 8_192; n++) order.record(newKey());
    expect(order.readsFirst(key)).toBe(false);
  });

  it('for every key once five new ones in a row had a record, until first requests come again', () => {
    retries(4);
    expect(order.readsFirst(newKey())).toBe(false);
    retries(1);
    expect(order.readsFirst(newKey())).toBe(true);
    firstRequests(6);
    expect(order.readsFirst(newKey())).toBe(false);
  });

  it('for no more than a hundred first requests after any storm of retries', () => {
    retries(1_000);
    firstRequests(100);
    expect(order.readsFirst(newKey())).toBe(false);
  });

  it('as for any other key, where one key is retried without end: it says nothing about new ones', () => {
    const hot = newKey();
    for (let n = 0; n < 1_000; n++) order.found(hot);
    expect(order.readsFirst(newKey())).toBe(false);
  });

  it.each([
    [1, 0, 0.01],
    [5, 0, 0.15],
    [30, 0.95, 1],
  ])(
    'with %i %% retries of new keys, by a share of all requests between %d and %d',
    (percent, least, most) => {
      fc.assert(
        fc.property(fc.infiniteStream(fc.noBias(fc.integer({ min: 1, max: 100 }))), (draws) => {
          order = new ClaimOrder();
          let reads = 0;
          for (let n = 0; n < 2_100; n++) {
            const key = newKey();
            if (n >= 100 && order.readsFirst(key)) reads++;
            if ((draws.next().value as number) <= percent) order.found(key);
            else order.foundNone(key);
          }
          expect(reads / 2_000).toBeGreaterThanOrEqual(least);
          expect(reads / 2_000).toBeLessThanOrEqual(most);
        }),
        { numRuns: 20, seed: 7 },
      );
    },
  );

  describe('while Postgres does not answer', () => {
    beforeEach(() => jest.useFakeTimers());
    afterEach(() => jest.useRealTimers());

    it('for 50 ms, although a claim is under way; its answer, or another one’s, ends that', () => {
      order.claimSent();
      jest.advanceTimersByTime(40);
      order.claimSent();
      expect(order.readsFirst(newKey())).toBe(false);
      jest.advanceTimersByTime(11);
      expect(order.readsFirst(newKey())).toBe(true);
      order.claimEnded();
      expect(order.readsFirst(newKey())).toBe(false);
      jest.advanceTimersByTime(51);
      expect(order.readsFirst(newKey())).toBe(true);
    });

    it('not while it was not asked anything', () => {
      order.claimSent();
      order.claimEnded();
      jest.advanceTimersByTime(10_000);
      expect(order.readsFirst(newKey())).toBe(false);
    });
  });
});
