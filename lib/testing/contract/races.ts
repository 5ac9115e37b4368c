import { randomUUID } from 'node:crypto';
import type { Claim } from '../../core/record';
import type { ClaimRequest } from '../../core/store';
import {
  created,
  FINGERPRINT,
  inProgress,
  newId,
  SHORT_LEASE,
  until,
  won,
  type DefineTest,
  type Trial,
} from './trial';

/** A verb that takes two steps is not caught each time. */
const KEYS = 20;

/** Two verbs on one key at the same time: they agree on which of them came first. */
export function races(test: DefineTest): void {
  test('completes an orphan, or lets another take it over', async (trial) => {
    for (const [old, takeOver] of await orphans(trial)) {
      const [{ recorded }, { claimed }] = await Promise.all([
        trial.store.complete(old, created),
        trial.another.claim(takeOver),
      ]);
      trial.expect(recorded).toBe(!claimed);
    }
  });

  test('completes a claim that the store has lost, or gives its key to another', async (trial) => {
    for (let i = 0; i < KEYS; i++) {
      const id = newId();
      const lost: Claim = { id, fingerprint: FINGERPRINT, token: randomUUID(), fence: 7, attempt: 1 };
      const [{ recorded }, { claimed }] = await Promise.all([
        trial.store.complete(lost, created),
        trial.another.claim(trial.request({ id })),
      ]);
      trial.expect(recorded).toBe(!claimed);
    }
  });

  test('revives an orphan, or lets another take it over', async (trial) => {
    for (const [old, takeOver] of await orphans(trial)) {
      const [held, { claimed }] = await Promise.all([
        trial.store.renew([old], 60_000),
        trial.another.claim(takeOver),
      ]);
      trial.expect(held.has(old.token)).toBe(!claimed);
    }
  });

  for (const verb of ['release', 'forget'] as const)
    test(`does not ${verb} what has just taken an orphan over`, async (trial) => {
      for (const [old, takeOver] of await orphans(trial)) {
        const [, result] = await Promise.all([trial.store[verb](old), trial.another.claim(takeOver)]);
        trial.expect(await trial.store.find(old.id)).toMatchObject({ token: won(result).token });
      }
    });
}

/** Claims whose leases have lapsed, each with a request that may take it over. */
async function orphans({ store, claim, request }: Trial): Promise<[Claim, ClaimRequest][]> {
  const lapsing: Claim[] = [];
  for (let i = 0; i < KEYS; i++) lapsing.push(await claim({ id: newId(), lease: SHORT_LEASE }));
  for (const { id } of lapsing)
    await until('the lease has lapsed', async () => inProgress(await store.find(id)).leaseRemaining <= 0);
  return lapsing.map((old) => [old, request({ id: old.id, takeOver: true })]);
}
