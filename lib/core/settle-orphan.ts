import { isOrphaned, type IdempotencyRecord, type Outcome } from './record';
import type { ClaimRequest, ClaimResult, IdempotencyStore } from './store';

/** Milliseconds for which an operator's claim is held: a crash in between leaves the orphan that was there. */
const LEASE = 30_000;

interface SettlingStore extends Pick<IdempotencyStore, 'complete' | 'release'> {
  /** Asks the store that decides. An outcome of the orphan that is found elsewhere is recorded there. */
  claimInArbiter(request: ClaimRequest): Promise<ClaimResult>;
}

/**
 * Settles the unknown outcome of a claim whose owner is lost: takes it over, as a retry would, so that an owner that
 * comes back is refused, and of two operators one does it.
 * @param outcome undefined: the next request runs the handler
 * @returns false if there was nothing to settle: an outcome already, or an owner that is alive
 */
export async function settleOrphan(
  store: SettlingStore,
  record: IdempotencyRecord,
  outcome: Outcome | undefined,
): Promise<boolean> {
  if (!isOrphaned(record)) return false;
  const result = await store.claimInArbiter({
    id: record.id,
    fingerprint: record.fingerprint,
    token: crypto.randomUUID(),
    lease: LEASE,
    takeOver: true,
    bypassCache: true,
    durability: 'durable',
  });
  if (!result.claimed) return false;
  if (outcome) return (await store.complete(result.claim, outcome)).recorded;
  // What is not there any more was released by a try whose reply was lost, or is another's by now: free in both cases.
  await store.release(result.claim);
  return true;
}
