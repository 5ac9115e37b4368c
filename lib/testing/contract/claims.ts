import { randomUUID } from 'node:crypto';
import { Digest, plainDigest } from '../../core/digest';
import { recordId } from '../../core/record';
import {
  created,
  FINGERPRINT,
  inProgress,
  newId,
  OTHER_FINGERPRINT,
  onlyWinner,
  won,
  type DefineTest,
} from './trial';

export function claims(test: DefineTest): void {
  test('gives an absent key to the first that asks', async ({ id, claim, expect }) => {
    const token = randomUUID();
    const mine = await claim({ token });
    expect(mine).toEqual({ id, fingerprint: FINGERPRINT, token, attempt: 1, fence: mine.fence });
    expect(mine.fence).toBeGreaterThan(0);
  });

  for (const durability of ['durable', 'fast'] as const)
    test(`answers the second with the first one’s record (${durability})`, async ({
      another,
      request,
      claim,
      expect,
    }) => {
      const mine = await claim({ durability });
      const second = await another.claim(request({ durability }));
      expect(second).toMatchObject({ claimed: false, record: { ...mine, state: 'in_progress' } });
      const { leaseRemaining } = inProgress(second.claimed ? undefined : second.record);
      expect(leaseRemaining).toBeGreaterThan(0);
      expect(leaseRemaining).toBeLessThanOrEqual(30_000);
    });

  test('recognises its own token when the reply to an earlier try was lost', async ({
    store,
    request,
    claim,
    expect,
  }) => {
    const token = randomUUID();
    const mine = await claim({ token });
    expect(await store.claim(request({ token }))).toEqual({ claimed: true, claim: mine });
  });

  test('holds for the milliseconds of its lease, which may be none of whole seconds', async ({
    store,
    request,
    id,
    expect,
  }) => {
    let longest = 0;
    // Once is enough, but this process may be too busy to look in time.
    for (let tries = 0; tries < 5 && longest <= 1_000; tries++) {
      const each = tries === 0 ? id : newId();
      await store.claim(request({ id: each, lease: 1_900 }));
      longest = Math.max(longest, inProgress(await store.find(each)).leaseRemaining);
    }
    expect(longest).toBeGreaterThan(1_000);
    expect(longest).toBeLessThanOrEqual(1_900);
  });

  test('answers its own token with the outcome, once that is recorded', async ({
    store,
    another,
    request,
    claim,
    expect,
  }) => {
    const token = randomUUID();
    await store.complete(await claim({ token }), created);
    expect(await another.claim(request({ token, takeOver: true }))).toMatchObject({
      claimed: false,
      record: { state: 'completed', outcome: created },
    });
  });

  test('gives one key to exactly one of many, at any instance', async ({
    store,
    another,
    request,
    expect,
  }) => {
    const results = await Promise.all(
      Array.from({ length: 50 }, (_, i) => (i % 2 ? store : another).claim(request())),
    );
    const winner = onlyWinner(results, expect);
    for (const result of results) {
      if (!result.claimed) expect(result.record).toMatchObject({ token: winner.token, fence: winner.fence });
    }
  });

  test('recognises its own token after its lease has lapsed', async ({
    another,
    request,
    orphan,
    expect,
  }) => {
    const mine = await orphan();
    expect(await another.claim(request({ token: mine.token }))).toEqual({ claimed: true, claim: mine });
  });

  test('keeps the same key in two scopes apart', async ({ store, id, request, claim, expect }) => {
    await claim();
    const elsewhere = recordId('POST /orders', id.key, plainDigest);
    expect((await store.claim(request({ id: elsewhere }))).claimed).toBe(true);
  });

  test('keeps the same key of two namespaces apart', async ({ store, id, request, claim, expect }) => {
    await claim();
    const elsewhere = recordId(id.scope, id.key, new Digest({ namespace: 'another' }));
    expect((await store.claim(request({ id: elsewhere }))).claimed).toBe(true);
  });

  test('keeps apart keys that look alike, and gives each back as it was given', async ({
    store,
    another,
    id: { scope, key },
    request,
    expect,
  }) => {
    for (const each of likenesses(key)) {
      const id = recordId(scope, each, plainDigest);
      const mine = won(await store.claim(request({ id })));
      expect(mine.id).toEqual(id);
      expect(await another.find(id)).toMatchObject({ ...mine, id, state: 'in_progress' });
    }
  });
}

/** Keys that a store would take for one if it folded case, normal form or space, or kept a part of them. */
function likenesses(key: string): string[] {
  const long = key.padEnd(254, '-');
  return [
    `${key} key`,
    `${key} KEY`,
    ` ${key} key`,
    `${key} key `,
    `${key} \u00e9`,
    `${key} e\u0301`,
    `${key} 'quoted' "twice" 100%_\\`,
    `${key}:*?[a]{b}/../c`,
    `${long}1`,
    `${long}2`,
  ];
}

export function lapsedLeases(test: DefineTest): void {
  test('is left alone unless the claimant may take over', async ({ another, request, orphan, expect }) => {
    const old = await orphan();
    expect(await another.claim(request())).toMatchObject({
      claimed: false,
      record: { token: old.token },
    });
  });

  test('is left alone by a request with another fingerprint', async ({
    another,
    request,
    orphan,
    expect,
  }) => {
    const old = await orphan();
    const result = await another.claim(request({ takeOver: true, fingerprint: OTHER_FINGERPRINT }));
    expect(result).toMatchObject({
      claimed: false,
      record: { token: old.token, fingerprint: FINGERPRINT },
    });
  });

  test('is taken over by exactly one of many, with the next attempt and a higher fence', async ({
    store,
    another,
    request,
    orphan,
    expect,
  }) => {
    const old = await orphan();
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, i) => (i % 2 ? store : another).claim(request({ takeOver: true }))),
    );
    const winner = onlyWinner(results, expect);
    expect(winner.attempt).toBe(2);
    expect(winner.fence).toBeGreaterThan(old.fence);
  });

  test('is recognised by the token that took it over, when the reply to that was lost', async ({
    another,
    request,
    claim,
    orphan,
    expect,
  }) => {
    await orphan();
    const winner = await claim({ takeOver: true });
    const again = await another.claim(request({ takeOver: true, token: winner.token }));
    expect(again).toEqual({ claimed: true, claim: winner });
  });

  test('is not taken over while it lives', async ({ another, request, claim, expect }) => {
    const mine = await claim();
    expect(await another.claim(request({ takeOver: true }))).toMatchObject({
      claimed: false,
      record: { token: mine.token },
    });
  });
}
