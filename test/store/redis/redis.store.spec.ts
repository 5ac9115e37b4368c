import { Logger } from '@nestjs/common';
import fc from 'fast-check';
import { randomUUID } from 'node:crypto';
import Redis from 'ioredis';
import { UnreadableRecordError } from '../../../lib/core/errors';
import type { Claim } from '../../../lib/core/record';
import { ForeignValueError } from '../../../lib/store/redis/codec';
import { RedisConnection } from '../../../lib/store/redis/connection/redis.connection';
import { RedisStore, type CacheEntry } from '../../../lib/store/redis/redis.store';
import { until } from '../../support/eventually';
import { claimRequest, newClaim, response, rejection } from '../../support/redis-store';
import { openRedisStore } from '../../support/open-redis-store';

const open = openRedisStore();
let application: Redis;
let connection: RedisConnection;
let store: RedisStore;
beforeAll(() => ({ application, connection, store } = open));

const STATES = ['in_progress', 'pending', 'completed', 'removed'] as const;

interface Write {
  readonly fence: number;
  readonly state: (typeof STATES)[number];
}

function tokenOf(fence: number): string {
  const hex = fence.toString(16).padStart(16, '0');
  return `00000000-0000-4000-${hex.slice(0, 4)}-${hex.slice(4)}`;
}

function entryOf(claim: Claim, { fence, state }: Write): CacheEntry {
  const owned = { ...claim, fence, token: tokenOf(fence) };
  switch (state) {
    case 'in_progress':
      return { claim: owned, state, lease: 30_000 };
    case 'pending':
    case 'completed':
      return {
        claim: owned,
        state: 'completed',
        outcome: response(`of ${fence}`),
        pending: state === 'pending',
        ttl: 60_000,
      };
    case 'removed':
      return { claim: owned, state };
  }
}

async function seen(claim: Claim): Promise<Write | undefined> {
  const record = await store.find(claim.id);
  if (!record) return undefined;
  expect(record.token).toBe(tokenOf(record.fence));
  if (record.state === 'in_progress') return { fence: record.fence, state: record.state };
  expect(record.outcome).toEqual(response(`of ${record.fence}`));
  return { fence: record.fence, state: record.pending ? 'pending' : 'completed' };
}

describe('put', () => {
  const writes = fc.record({ fence: fc.integer({ min: 1, max: 4 }), state: fc.constantFrom(...STATES) });

  it('ends with the greatest fence and its latest state, in whatever order and however often writes arrive', async () => {
    const shuffledWithDuplicates = fc
      .array(writes, { minLength: 1, maxLength: 8 })
      .chain((list) => fc.shuffledSubarray([...list, ...list], { minLength: list.length }));
    await fc.assert(
      fc.asyncProperty(shuffledWithDuplicates, async (list) => {
        const claim = newClaim();
        for (const write of list) await store.put(entryOf(claim, write));
        const rank = ({ fence, state }: Write): number => fence * STATES.length + STATES.indexOf(state);
        const greatest = list.reduce((a, b) => (rank(a) >= rank(b) ? a : b));
        expect(await seen(claim)).toEqual(greatest.state === 'removed' ? undefined : greatest);
      }),
      { numRuns: 200 },
    );
  });

  it('ends so also when the writes arrive at once', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(writes, { minLength: 2, maxLength: 12 }), async (list) => {
        const claim = newClaim();
        await Promise.all(list.map((write) => store.put(entryOf(claim, write))));
        const fence = Math.max(...list.map((write) => write.fence));
        const states = list
          .filter((write) => write.fence === fence)
          .map(({ state }) => STATES.indexOf(state));
        const state = STATES[Math.max(...states)]!;
        expect(await seen(claim)).toEqual(state === 'removed' ? undefined : { fence, state });
      }),
    );
  });

  it('compares fences as numbers, up to the greatest that one can hold', async () => {
    const claim = newClaim();
    await store.put(entryOf(claim, { fence: 9, state: 'completed' }));
    await store.put(entryOf(claim, { fence: 10, state: 'in_progress' }));
    expect(await seen(claim)).toEqual({ fence: 10, state: 'in_progress' });
    const fence = Number.MAX_SAFE_INTEGER;
    await store.put(entryOf(claim, { fence: fence - 1, state: 'completed' }));
    await store.put(entryOf(claim, { fence, state: 'in_progress' }));
    expect(await seen(claim)).toEqual({ fence, state: 'in_progress' });
  });

  it('keeps a hint for its lease, and shows what remains of it', async () => {
    const claim = newClaim();
    await store.put({ claim, state: 'in_progress', lease: 20_000 });
    const record = await store.find(claim.id);
    expect(record).toMatchObject({ ...claim, state: 'in_progress', tier: 'redis' });
    const remaining = record?.state === 'in_progress' ? record.leaseRemaining : 0;
    expect(remaining).toBeGreaterThan(10_000);
    expect(remaining).toBeLessThanOrEqual(20_000);

    const brief = newClaim();
    await store.put({ claim: brief, state: 'in_progress', lease: 50 });
    await until(async () => (await store.find(brief.id)) === undefined, 'the hint is gone');
  });

  it('is not made once its time has passed, even where the caller would still wait', async () => {
    const claim = newClaim();
    const entry = entryOf(claim, { fence: 1, state: 'pending' });
    await rejection(store.put(entry, performance.now() - 1));
    expect(await seen(claim)).toBeUndefined();
    expect(await store.put(entry, performance.now() + 5_000)).toBe(true);
    expect(await seen(claim)).toEqual({ fence: 1, state: 'pending' });
  });

  it('keeps an outcome for the time it is given, and says how much of it is left', async () => {
    const claim = newClaim();
    await store.put({ claim, state: 'completed', outcome: response(), pending: false, ttl: 100_000.7 });
    const record = await store.find(claim.id);
    const expiresIn = record?.state === 'completed' ? record.expiresIn : 0;
    expect(expiresIn).toBeGreaterThan(90_000);
    expect(expiresIn).toBeLessThanOrEqual(100_000);
    expect(await application.pttl(`idempotency:${claim.id.hash}`)).toBeLessThanOrEqual(100_000);
  });

  it('files everything under the prefix and the hash, and nothing of key or scope', async () => {
    const claim = newClaim();
    await store.put({ claim, state: 'in_progress', lease: 30_000 });
    const keys = await application.keys(`*${claim.id.hash}*`);
    expect(keys).toEqual([`idempotency:${claim.id.hash}`]);
    const value = await application.get(keys[0]!);
    expect(value).not.toContain(claim.id.key);
    expect(value).not.toContain(claim.id.scope);
  });

  it('keeps the prefix that the application’s client puts before every key', async () => {
    const prefixed = new Redis(open.url, { keyPrefix: 'app:', lazyConnect: true });
    const own = new RedisConnection(prefixed, { timeout: 5_000 });
    await own.open();
    const prefixedStore = new RedisStore({ connection: own, keyPrefix: 'idempotency:', ttl: 60_000 });
    const result = await prefixedStore.claim(claimRequest());
    const { id } = result.claimed ? result.claim : result.record;
    expect(await application.exists(`app:idempotency:${id.hash}`)).toBe(1);
    expect(await prefixedStore.find(id)).toMatchObject({ state: 'in_progress' });
    await own.close();
    prefixed.disconnect();
  });
});

describe('a value that this module did not write', () => {
  let errors: jest.SpyInstance;
  beforeEach(() => {
    errors = jest.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
  });
  afterEach(() => errors.mockRestore());

  const later = (claim: Claim): string =>
    `2:5:1:0:1900000000000\n${JSON.stringify({ v: 2, token: claim.token, fingerprint: claim.fingerprint })}\n`;
  const kinds: [string, (key: string, claim: Claim) => Promise<unknown>][] = [
    ['a string', (key) => application.set(key, 'something else')],
    ['a list', (key) => application.rpush(key, 'a', 'b')],
    ['an empty string', (key) => application.set(key, '')],
    ...(['0:5:1:1900000000000', '2:5:1:0'] as const).map(
      (head): [string, (key: string) => Promise<unknown>] => [
        `the head ${head} without our meta data`,
        (key) => application.set(key, `${head}:1900000000000\n{"a":1}\n`),
      ],
    ),
  ];

  it.each(kinds)('reads as absent (%s), and gives way to a copy', async (_, write) => {
    const claim = newClaim({ fence: 9 });
    await write(`idempotency:${claim.id.hash}`, claim);
    expect(await store.find(claim.id)).toBeUndefined();
    await store.put({ claim, state: 'completed', outcome: response(), pending: false, ttl: 60_000 });
    expect(await store.find(claim.id)).toMatchObject({ state: 'completed', fence: 9 });
  });

  it.each(kinds)('is no licence to run a handler (%s): the arbiter refuses', async (_, write) => {
    const claim = newClaim();
    const key = `idempotency:${claim.id.hash}`;
    await write(key, claim);
    const before = await application.dump(key);
    for (const refused of [
      store.claim(claimRequest({ id: claim.id, takeOver: true })),
      store.complete(claim, response()),
    ]) {
      const { error } = await rejection(refused);
      expect(error).toBeInstanceOf(UnreadableRecordError);
      expect((error as Error).cause).toBeInstanceOf(ForeignValueError);
    }
    expect(await store.release(claim)).toBe(false);
    expect(await store.renew([claim], 30_000)).toEqual(new Set());
    expect(await store.forget(claim)).toBe(false);
    expect(await application.dump(key)).toEqual(before);
  });

  it('of a later version is no licence either, and gives way only to a greater fence', async () => {
    const claim = newClaim({ fence: 4 });
    await application.set(`idempotency:${claim.id.hash}`, later(claim));
    expect(await store.find(claim.id)).toBeUndefined();
    await expect(store.claim(claimRequest({ id: claim.id }))).rejects.toThrow(UnreadableRecordError);
    await store.put({ claim, state: 'in_progress', lease: 30_000 });
    expect(await store.find(claim.id)).toBeUndefined();
    await store.put({ claim: { ...claim, fence: 6 }, state: 'in_progress', lease: 30_000 });
    expect(await store.find(claim.id)).toMatchObject({ fence: 6 });
  });

  it('is logged once, without key or content', async () => {
    const prefix = `${randomUUID()}:`;
    const fresh = new RedisStore({ connection, keyPrefix: prefix, ttl: 60_000 });
    const ids = [newClaim().id, newClaim().id];
    for (const id of ids) await application.set(prefix + id.hash, 'a secret');
    for (const id of [...ids, ...ids]) await fresh.find(id);
    expect(errors).toHaveBeenCalledTimes(1);
    const text = JSON.stringify(errors.mock.calls);
    expect(text).toContain(prefix);
    expect(text).not.toContain('a secret');
    for (const id of ids) expect(text).not.toContain(id.hash);
  });
});
