import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { IdempotencyRecord } from '../../core/record';
import {
  created,
  FINGERPRINT,
  newId,
  onlyWinner,
  OTHER_FINGERPRINT,
  SHORT_RETENTION,
  until,
  won,
  type DefineTest,
} from './trial';

export function findAndForget(test: DefineTest): void {
  test('finds nothing under an absent key', async ({ store, id, expect }) => {
    expect(await store.find(id)).toBeUndefined();
    expect(
      await store.forget({ id, fingerprint: FINGERPRINT, token: randomUUID(), fence: 1, attempt: 1 }),
    ).toBe(false);
  });

  test('refuses to forget a claim whose owner is alive', async ({ store, id, claim, expect }) => {
    const mine = await claim();
    expect(await store.forget(mine)).toBe(false);
    expect(await store.find(id)).toMatchObject({ token: mine.token });
  });

  test('forgets an outcome, and the next fence is higher', async ({ store, another, id, claim, expect }) => {
    const mine = await claim();
    await store.complete(mine, created);
    expect(await another.forget({ ...mine, fence: mine.fence + 1 })).toBe(false);
    expect(await another.forget(mine)).toBe(true);
    expect(await store.find(id)).toBeUndefined();
    expect((await claim()).fence).toBeGreaterThan(mine.fence);
  });

  test('forgets an orphan', async ({ store, another, id, orphan, expect }) => {
    const old = await orphan();
    expect(await store.forget(old)).toBe(true);
    expect(await another.find(id)).toBeUndefined();
  });

  test('does not forget the claim that came after the one it was told of', async ({
    store,
    id,
    claim,
    orphan,
    expect,
  }) => {
    const old = await orphan();
    const winner = await claim({ takeOver: true });
    await store.complete(winner, created);
    expect(await store.forget(old)).toBe(false);
    expect(await store.find(id)).toMatchObject({ token: winner.token });
  });
}

/** Milliseconds of a lease. Under a shorter one, a record may expire before a busy machine has renewed its claim. */
const RENEWED_WITHIN = 1_000;

/** On a store whose records expire soon. */
export function expiry(test: DefineTest): void {
  test('is absent, and its key can be claimed anew by another request, with a higher fence', async ({
    store,
    another,
    id,
    request,
    expect,
  }) => {
    const old = won(await store.claim(request({ lease: 50 })));
    await store.complete(old, created);
    await until('the record has expired', async () => (await store.find(id)) === undefined);
    const results = await Promise.all(
      Array.from({ length: 10 }, () =>
        another.claim(request({ fingerprint: OTHER_FINGERPRINT, lease: 5_000 })),
      ),
    );
    const winner = onlyWinner(results, expect);
    expect(winner).toMatchObject({ attempt: 1, fingerprint: OTHER_FINGERPRINT });
    expect(winner.fence).toBeGreaterThan(old.fence);
  });

  test('is never a claim whose lease lives, however short the retention', async ({
    store,
    another,
    id,
    request,
    expect,
  }) => {
    const mine = won(await store.claim(request({ lease: 2_000 })));
    await delay(SHORT_RETENTION + 80); // longer than the retention: nothing may happen
    expect((await another.claim(request({ takeOver: true }))).claimed).toBe(false);
    expect(await store.find(id)).toMatchObject({ token: mine.token });
  });

  test('does not expire while its lease is renewed', async ({ store, id, request, expect }) => {
    const mine = won(await store.claim(request({ lease: RENEWED_WITHIN })));
    await store.renew([mine], 60_000);
    await delay(RENEWED_WITHIN + 80); // longer than the retention and that lease: nothing may happen
    expect(await store.find(id)).toMatchObject({ state: 'in_progress', token: mine.token });
  });

  test('answers for all of the retention once it is completed, however long its handler took', async ({
    store,
    another,
    claim,
    expect,
  }) => {
    let found: IdempotencyRecord | undefined;
    // Once is enough, but this process may be too busy to look in time.
    for (let tries = 0; tries < 5 && !found; tries++) {
      const mine = await claim({ id: newId() });
      await delay(SHORT_RETENTION + 80); // longer than the retention: nothing may happen
      await store.complete(mine, created);
      found = await another.find(mine.id);
    }
    expect(found?.state).toBe('completed');
  });
}
