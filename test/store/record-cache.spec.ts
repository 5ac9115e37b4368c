import { StoreUnavailableError } from '../../lib/core/errors';
import type { Metrics } from '../../lib/core/ports';
import type { IdempotencyRecord } from '../../lib/core/record';
import { tombstoneFor } from '../../lib/outcome/stored-outcome';
import { RecordCache } from '../../lib/store/record-cache';
import type { CacheEntry, RedisStore } from '../../lib/store/redis/redis.store';
import { StoreMonitor } from '../../lib/store/store-monitor';
import { aClaim, aResponse, completedRecord, inProgressRecord } from '../support/records';

describe('the copies in Redis', () => {
  let written: CacheEntry[];
  let errors: number;
  let available: boolean;
  let fails: boolean;
  let found: IdempotencyRecord | undefined;
  let pending: IdempotencyRecord[];
  let cache: RecordCache;
  beforeEach(() => {
    [written, errors, available, fails, found, pending] = [[], 0, true, false, undefined, []];
    const gone = (): Promise<never> => Promise.reject(new StoreUnavailableError('redis', 'find', 'gone'));
    const store = {
      get available() {
        return available;
      },
      find: () => (fails ? gone() : Promise.resolve(found)),
      put: (entry: CacheEntry) => {
        written.push(entry);
        return fails ? gone() : Promise.resolve(true);
      },
    };
    const metrics = {
      storeError: () => (errors += 1),
      storeOperation: () => undefined,
    } as unknown as Metrics;
    const lifetimes = { ttl: 1_000, retention: 5_000 };
    const monitor = new StoreMonitor('redis', metrics);
    cache = new RecordCache(store as unknown as RedisStore, monitor, metrics, lifetimes, (record) =>
      pending.push(record),
    );
  });
  afterEach(() => cache.unmarkAll());

  it('are read where Redis has them; a failure is no record, and counts', async () => {
    found = completedRecord({ tier: 'redis' });
    expect(await cache.read(found.id)?.early).toBe(found);
    fails = true;
    expect(await cache.read(found.id)?.early).toBeUndefined();
    expect(errors).toBe(1);
    expect(pending).toEqual([]);
  });

  it('of outcomes that Postgres does not have yet are told of as they are read', async () => {
    found = completedRecord({ tier: 'redis', pending: true });
    expect(await cache.read(found.id)?.early).toBe(found);
    expect(pending).toEqual([found]);
  });

  it('are neither read nor written while Redis is bypassed, without a promise for the reader', async () => {
    available = false;
    expect(cache.read(aClaim().id)).toBeUndefined();
    await cache.putRemoved(aClaim());
    await expect(cache.ask('forget', () => Promise.resolve(true))).rejects.toMatchObject({
      tier: 'redis',
      sent: false,
    });
    expect(written).toEqual([]);
    expect(errors).toBe(3);
  });

  it('last no longer than what they are copies of, nor than the ttl', () => {
    cache.putOutcome(aClaim(), aResponse(), performance.now(), 300.7);
    cache.putOutcome(aClaim(), aResponse(), performance.now(), 60_000);
    cache.putOutcome(aClaim(), aResponse(), performance.now(), 0.5);
    expect(written.map((entry) => 'ttl' in entry && entry.ttl)).toEqual([300, 1_000]);
  });

  it('of an outcome that Postgres does not have yet last as long as a record, as they may be the only ones', async () => {
    expect(await cache.putPendingOutcome(aClaim(), aResponse(), Infinity)).toBe(true);
    expect(written).toMatchObject([{ pending: true, ttl: 5_000 }]);
    fails = true;
    expect(await cache.putPendingOutcome(aClaim(), aResponse(), Infinity)).toBe(false);
  });

  it.each<[string, IdempotencyRecord, object[]]>([
    ['an outcome', completedRecord(), [{ state: 'completed', pending: false }]],
    ['a live claim', inProgressRecord({ leaseRemaining: 10.2 }), [{ state: 'in_progress', lease: 11 }]],
    ['nothing for what was read in Redis', completedRecord({ tier: 'redis' }), []],
    [
      'nothing for what cannot be read here, as another process may',
      completedRecord({ outcome: tombstoneFor(201, 'unreadable') }),
      [],
    ],
    ['nothing for an orphan', inProgressRecord({ leaseRemaining: 0 }), []],
    [
      'nothing for a takeover, whose owner looks for a pending outcome first',
      inProgressRecord({ attempt: 2 }),
      [],
    ],
  ])('are filled with %s', (_, record, entries) => {
    cache.fill(record, performance.now());
    expect(written).toMatchObject(entries);
  });

  it('are not made of what was read so long ago that the mark of its deletion may have gone', () => {
    const longAgo = performance.now() - 30_000;
    cache.fill(completedRecord(), longAgo);
    cache.fill(inProgressRecord(), longAgo);
    cache.putOutcome(aClaim(), aResponse(), longAgo);
    expect(written).toEqual([]);
  });

  it('say of a takeover at once that it is in flight', () => {
    cache.markInFlight(aClaim({ attempt: 2 }), 10_000);
    cache.markInFlight(aClaim(), 10_000);
    expect(written).toMatchObject([{ state: 'in_progress', claim: { attempt: 2 } }]);
  });
});
