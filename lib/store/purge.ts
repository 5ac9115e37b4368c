import { StoreError } from '../core/errors';
import { isOfClaim, type Claim, type IdempotencyRecord } from '../core/record';
import type { ForgottenRecords } from '../core/store';
import type { Tiers } from './tiers';

/** What became of records that were to be deleted in both tiers. */
export interface PurgeResult {
  /** Records that no process replays any more. */
  readonly purged: number;
  /** Copies in Redis that were deleted. */
  readonly copies: number;
  /** Records that were taken or claimed anew meanwhile, or are in flight. */
  readonly changed: number;
  /** Records that were left, because this store could not be told; the arbiter may have deleted them nevertheless. */
  readonly unreachable: Readonly<Record<'redis' | 'arbiter', number>>;
}

/**
 * Deletes records in both tiers, except those whose lease is alive. Redis is told first, so that no copy outlives its
 * record: the mark that it leaves there keeps out what a process writes that has read the record before. An outcome that
 * waits in another process is refused by the mark that the arbiter leaves.
 */
export async function purge(tiers: Tiers, claims: readonly Claim[]): Promise<PurgeResult> {
  const settled = await sorted(claims, ({ id }) => tiers.pending.settle(id));
  const told = await sorted(settled.done, (claim) => deleteCopy(tiers, claim));
  const unreachable = { redis: told.failed, arbiter: settled.failed };
  const copies = told.results.filter((had) => had).length;
  if (told.done.length === 0) return { purged: 0, copies, changed: 0, unreachable };
  try {
    const { deleted } = await tiers.monitor.ask('forget', () => forgetAll(tiers, told.done));
    return { purged: deleted, copies, changed: told.done.length - deleted, unreachable };
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return {
      purged: 0,
      copies,
      changed: 0,
      unreachable: { ...unreachable, arbiter: claims.length - told.failed },
    };
  }
}

/**
 * Of whose copy Redis is told that it was removed, where a claim is deleted. A copy of a later claim is one that the
 * arbiter has lost, as in a failover, unless a later one stands there as well: it would be replayed, too.
 * @param cached what Redis has
 * @param standing what the arbiter had after that
 */
export function copyToRemove(
  claim: Claim,
  cached: IdempotencyRecord | undefined,
  standing: IdempotencyRecord | undefined,
): Claim {
  if (!cached || cached.fence <= claim.fence) return claim;
  return standing && standing.fence >= cached.fence ? claim : cached;
}

/** Whether there was a copy. */
async function deleteCopy({ cache, monitor, arbiter }: Tiers, claim: Claim): Promise<boolean> {
  if (!cache) return false;
  const cached = await cache.ask('find', (store) => store.find(claim.id));
  const isLater = cached && cached.fence > claim.fence;
  const standing = isLater ? await monitor.ask('find', () => arbiter.find(claim.id)) : undefined;
  const removed = copyToRemove(claim, cached, standing);
  await cache.ask('put', (store) => store.put({ claim: removed, state: 'removed' }));
  return isOfClaim(cached, removed);
}

async function forgetAll({ arbiter }: Tiers, claims: readonly Claim[]): Promise<ForgottenRecords> {
  if (arbiter.forgetAll) return arbiter.forgetAll(claims);
  const tokens = new Set<string>();
  for (const claim of claims) if (await arbiter.forget(claim)) tokens.add(claim.token);
  return { deleted: tokens.size, tokens };
}

/** Asks for each claim; a store that cannot be asked is not an error here. */
async function sorted<T>(
  claims: readonly Claim[],
  ask: (claim: Claim) => Promise<T>,
): Promise<{ readonly done: Claim[]; readonly results: T[]; readonly failed: number }> {
  const done: Claim[] = [];
  const results: T[] = [];
  const answers = await Promise.allSettled(claims.map(ask));
  for (const [index, answer] of answers.entries()) {
    const claim = claims[index];
    if (answer.status === 'fulfilled' && claim) {
      done.push(claim);
      results.push(answer.value);
    } else if (answer.status === 'rejected' && !(answer.reason instanceof StoreError)) throw answer.reason;
  }
  return { done, results, failed: claims.length - done.length };
}
