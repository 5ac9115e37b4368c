import type Redis from 'ioredis';
import type { RedisStore } from '../../../lib/store/redis/redis.store';
import { type CacheEntry } from '../../../lib/store/redis/redis.store';
import { newClaim, response } from '../../support/redis-store';
import { openRedisStore } from '../../support/open-redis-store';

const open = openRedisStore();
let application: Redis;
let store: RedisStore;
beforeAll(() => ({ application, store } = open));

describe('copies that meet', () => {
  const copy = (given: Partial<CacheEntry> = {}): CacheEntry =>
    ({
      claim: newClaim(),
      state: 'completed',
      outcome: response(),
      pending: false,
      ttl: 60_000,
      ...given,
    }) as CacheEntry;
  const calls = async (): Promise<Record<string, number>> => {
    const stats = await application.info('commandstats');
    const lines = stats.matchAll(/^cmdstat_(mget|evalsha):calls=(\d+)/gm);
    return Object.fromEntries([...lines].map(([, name, count]): [string, number] => [name!, Number(count)]));
  };

  it('are written by one command, and read by one: only the first read does not wait for others', async () => {
    const entries = Array.from({ length: 10 }, () => copy());
    await store.put(copy()); // by now the script is known
    const before = await calls();
    expect(await Promise.all(entries.map((entry) => store.put(entry)))).toEqual(Array(10).fill(true));
    const found = await Promise.all(entries.map(({ claim }) => store.find(claim.id)));
    expect(found.map((record) => record?.token)).toEqual(entries.map(({ claim }) => claim.token));
    const after = await calls();
    expect(after.evalsha! - before.evalsha!).toBe(1);
    expect(after.mget! - (before.mget ?? 0)).toBe(2);
  });

  it('are read together also where they are of one key, as those of duplicates are', async () => {
    const entry = copy();
    await store.put(entry);
    await store.find(entry.claim.id); // the last read was alone, so the next goes at once
    const before = await calls();
    const found = await Promise.all(Array.from({ length: 10 }, () => store.find(entry.claim.id)));
    expect(found.map((record) => record?.token)).toEqual(Array(10).fill(entry.claim.token));
    expect((await calls()).mget! - before.mget!).toBe(2);
  });

  it('are not lost for one of them that Redis refuses', async () => {
    const refused = copy({ ttl: Number.MAX_VALUE });
    const entries = [copy(), refused, copy()];
    const results = await Promise.allSettled(entries.map((entry) => store.put(entry)));
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    for (const { claim } of entries)
      expect((await store.find(claim.id)) !== undefined).toBe(claim !== refused.claim);
  });

  it('are not lost for one of them that comes too late', async () => {
    const [early, late] = [copy(), copy()];
    const results = await Promise.allSettled([store.put(late, performance.now() - 1), store.put(early)]);
    expect(results).toMatchObject([{ status: 'rejected' }, { status: 'fulfilled', value: true }]);
    expect(await store.find(early.claim.id)).toBeDefined();
    expect(await store.find(late.claim.id)).toBeUndefined();
  });

  it('are found beside a value of another type', async () => {
    const [first, own, other] = [copy(), copy(), newClaim()];
    await store.put(own);
    await application.rpush(`idempotency:${other.id.hash}`, 'foreign');
    const ids = [first.claim.id, other.id, own.claim.id];
    const found = await Promise.all(ids.map((id) => store.find(id)));
    expect(found.map((record) => record?.token)).toEqual([undefined, undefined, own.claim.token]);
  });

  it('of one key end with the greatest fence', async () => {
    const claim = newClaim();
    const at = (fence: number): CacheEntry => copy({ claim: { ...claim, fence } });
    const results = await Promise.all([at(2), at(3), at(1)].map((entry) => store.put(entry)));
    expect(results).toEqual([true, true, false]);
    expect(await store.find(claim.id)).toMatchObject({ fence: 3 });
  });
});
