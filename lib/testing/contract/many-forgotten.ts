import { randomUUID } from 'node:crypto';
import type { Claim } from '../../core/record';
import type { ForgottenRecords, IdempotencyStore } from '../../core/store';
import { created, newId, until, won, type DefineTest, type Trial } from './trial';

type ManyTest = (
  trial: Trial,
  forgetAll: (claims: readonly Claim[]) => Promise<ForgottenRecords>,
) => Promise<void>;

/** Tests of a verb that a store may leave out. */
function onForgetAll(test: DefineTest): (title: string, body: ManyTest) => void {
  return (title, body) =>
    test(title, async (trial) => {
      const { store }: { store: IdempotencyStore } = trial;
      if (store.forgetAll) await body(trial, store.forgetAll.bind(store));
    });
}

export function manyForgotten(define: DefineTest): void {
  const test = onForgetAll(define);

  test('deletes outcomes and orphans, and says which', async ({
    store,
    another,
    claim,
    orphan,
    expect,
  }, forgetAll) => {
    const old = await orphan();
    const completed = await claim({ id: newId() });
    await store.complete(completed, created);
    const forgotten = await forgetAll([old, completed]);
    expect(forgotten.deleted).toBe(2);
    expect(new Set(forgotten.tokens)).toEqual(new Set([old.token, completed.token]));
    for (const { id } of [old, completed]) expect(await another.find(id)).toBeUndefined();
    expect((await claim()).fence).toBeGreaterThan(old.fence);
  });

  test('leaves a claim whose owner is alive', async ({ store, claim, expect }, forgetAll) => {
    const alive = await claim();
    const completed = await claim({ id: newId() });
    await store.complete(completed, created);
    expect((await forgetAll([alive, completed])).tokens).toEqual(new Set([completed.token]));
    expect(await store.find(alive.id)).toMatchObject({ token: alive.token });
  });

  test('leaves what is another claim than the one it was told of', async ({
    store,
    claim,
    orphan,
    expect,
  }, forgetAll) => {
    const old = await orphan();
    const winner = await claim({ takeOver: true });
    await store.complete(winner, created);
    const unknown = { ...old, id: newId(), token: randomUUID() };
    const forgotten = await forgetAll([old, { ...winner, fence: winner.fence + 1 }, unknown]);
    expect(forgotten).toMatchObject({ deleted: 0, tokens: new Set() });
    expect(await store.find(old.id)).toMatchObject({ token: winner.token });
  });

  test('has nothing to do without claims', async ({ expect }, forgetAll) => {
    expect(await forgetAll([])).toMatchObject({ deleted: 0, tokens: new Set() });
  });
}

/** On a store whose records expire soon. */
export function expiredForgotten(define: DefineTest): void {
  onForgetAll(define)(
    'is not named among those that are forgotten',
    async ({ store, id, request, expect }, forgetAll) => {
      const old = won(await store.claim(request({ lease: 50 })));
      await store.complete(old, created);
      await until('the record has expired', async () => (await store.find(id)) === undefined);
      const { deleted, tokens } = await forgetAll([old]);
      expect(deleted).toBeLessThanOrEqual(1); // it may be gone
      expect(tokens).toEqual(new Set());
    },
  );
}
