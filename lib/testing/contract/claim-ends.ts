import { randomUUID } from 'node:crypto';
import { type Claim } from '../../core/record';
import { created, inProgress, newId, OTHER_FINGERPRINT, won, type DefineTest } from './trial';

export function releases(test: DefineTest): void {
  test('releases the key, and the next fence is higher', async ({
    store,
    another,
    id,
    request,
    claim,
    expect,
  }) => {
    const mine = await claim();
    expect(await store.release(mine)).toBe(true);
    expect(await another.find(id)).toBeUndefined();
    const next = won(await another.claim(request({ fingerprint: OTHER_FINGERPRINT })));
    expect(next.attempt).toBe(1);
    expect(next.fence).toBeGreaterThan(mine.fence);
  });

  test('needs only the token when the claim’s reply, and so its fence, was lost', async ({
    store,
    id,
    claim,
    expect,
  }) => {
    const mine = await claim();
    expect(await store.release({ ...mine, fence: 0, attempt: 0 })).toBe(true);
    expect(await store.find(id)).toBeUndefined();
  });

  test('is false where nothing stands', async ({ store, id, expect }) => {
    const unknown: Claim = { id, fingerprint: OTHER_FINGERPRINT, token: randomUUID(), fence: 7, attempt: 1 };
    expect(await store.release(unknown)).toBe(false);
    expect(await store.release({ ...unknown, fence: 0, attempt: 0 })).toBe(false);
  });

  test('leaves an orphan an orphan where the reply to its takeover was lost: its handler may have run', async ({
    store,
    another,
    id,
    claim,
    orphan,
    expect,
  }) => {
    await orphan();
    const lost = await claim({ takeOver: true });
    expect(await store.release({ ...lost, fence: 0, attempt: 0 })).toBe(true);
    const left = await another.find(id);
    expect(inProgress(left).leaseRemaining).toBeLessThanOrEqual(0);
    expect((await claim({ takeOver: true })).attempt).toBeGreaterThan(2);
  });

  test('releases a key that was taken over, as any other', async ({
    store,
    another,
    id,
    request,
    claim,
    orphan,
    expect,
  }) => {
    await orphan();
    const winner = await claim({ takeOver: true });
    expect(await store.release(winner)).toBe(true);
    expect(await another.find(id)).toBeUndefined();
    const next = won(await another.claim(request({ fingerprint: OTHER_FINGERPRINT })));
    expect(next.attempt).toBe(1);
    expect(next.fence).toBeGreaterThan(winner.fence);
  });

  test('harms no claim after a takeover', async ({ store, id, claim, orphan, expect }) => {
    const old = await orphan();
    const winner = await claim({ takeOver: true });
    expect(await store.release(old)).toBe(false);
    expect(await store.find(id)).toMatchObject({ token: winner.token });
  });

  test('does not undo an outcome', async ({ store, id, claim, expect }) => {
    const mine = await claim();
    await store.complete(mine, created);
    expect(await store.release(mine)).toBe(false);
    expect(await store.release({ ...mine, fence: 0, attempt: 0 })).toBe(false);
    expect(await store.find(id)).toMatchObject({ state: 'completed' });
  });

  test('is refused under another fence than the claim’s', async ({ store, id, claim, expect }) => {
    const mine = await claim();
    expect(await store.release({ ...mine, fence: mine.fence + 1 })).toBe(false);
    expect(await store.find(id)).toMatchObject({ token: mine.token, fence: mine.fence });
  });
}

export function renewals(test: DefineTest): void {
  test('extends the leases that still stand, and names no others', async ({
    store,
    another,
    claim,
    orphan,
    expect,
  }) => {
    const lapsed = await orphan();
    const winner = await claim({ takeOver: true, lease: 1_000 });
    const mine = await claim({ id: newId(), lease: 1_000 });
    const unknown: Claim = { ...mine, id: newId(), token: randomUUID() };
    const held = await store.renew([lapsed, winner, mine, unknown], 60_000);
    expect(held).toEqual(new Set([winner.token, mine.token]));
    expect(inProgress(await another.find(mine.id)).leaseRemaining).toBeGreaterThan(1_000);
    expect(inProgress(await another.find(winner.id)).leaseRemaining).toBeGreaterThan(1_000);
  });

  test('revives a lapsed lease that no claim took over', async ({
    store,
    another,
    request,
    orphan,
    expect,
  }) => {
    const mine = await orphan();
    expect(await store.renew([mine], 60_000)).toEqual(new Set([mine.token]));
    expect((await another.claim(request({ takeOver: true }))).claimed).toBe(false);
  });

  test('does not name a claim under another fence than its own', async ({ store, claim, expect }) => {
    const mine = await claim();
    expect(await store.renew([{ ...mine, fence: mine.fence + 1 }], 60_000)).toEqual(new Set());
  });

  test('gives an empty set for no claims', async ({ store, expect }) => {
    expect(await store.renew([], 60_000)).toEqual(new Set());
  });

  test('does not name a completed claim', async ({ store, claim, expect }) => {
    const mine = await claim();
    await store.complete(mine, created);
    expect(await store.renew([mine], 60_000)).toEqual(new Set());
  });
}
