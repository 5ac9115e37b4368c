import { performance } from 'node:perf_hooks';
import { StoreError, StoreUnavailableError, UnrecordedOutcomeError } from '../core/errors';
import { isPending, type Claim, type IdempotencyRecord, type Outcome, type RecordId } from '../core/record';
import type { ClaimRequest, ClaimResult, CompleteResult } from '../core/store';
import type { BeginResult } from '../core/transaction';
import type { ClaimOrder } from './claim-order';
import type { CacheRead, RecordCache } from './record-cache';
import type { Tiers } from './tiers';

/** Claims over both tiers: what Redis knows may answer a request, but only the arbiter's row lets its handler run. */
export class TieredClaims {
  /** @param complete records the outcome of a claim */
  constructor(
    private readonly tiers: Tiers,
    private readonly order: ClaimOrder,
    private readonly complete: (claim: Claim, outcome: Outcome) => Promise<CompleteResult>,
  ) {}

  claim(request: ClaimRequest): Promise<ClaimResult> {
    const { cache } = this.tiers;
    if (!cache) return this.claimInArbiter(request);
    // A first request is likely, of which Redis knows nothing: it is asked where the key turns out to be known.
    return this.readsFirst(request.id, cache)
      ? this.readThenClaim(request, cache)
      : this.claimInArbiter(request, undefined, cache);
  }

  /** As {@link claim}, where a transaction is to have the key. Redis holds no hint of one, so only outcomes count. */
  async begin(id: RecordId, begin: () => Promise<BeginResult>): Promise<BeginResult> {
    const { cache, monitor } = this.tiers;
    const read = cache && this.readsFirst(id, cache) ? cache.read(id) : undefined;
    const early = read && (await read.early);
    if (early?.state === 'completed' && !early.pending) {
      this.order.found(id);
      return { kind: 'standing', record: early };
    }
    const askedAt = performance.now();
    try {
      const result = await begin();
      monitor.answered('begin', askedAt);
      if (result.kind === 'begun') this.order.foundNone(id);
      if (result.kind === 'standing') this.order.found(id);
      return result;
    } catch (reason) {
      const error = monitor.failed('begin', askedAt, reason);
      const late =
        error instanceof StoreUnavailableError ? await (read ?? cache?.read(id))?.answer : undefined;
      if (late?.state === 'completed') return { kind: 'standing', record: late };
      throw error;
    }
  }

  private readsFirst(id: RecordId, cache: RecordCache): boolean {
    return this.tiers.monitor.isDoubted || cache.mayHoldMore || this.order.readsFirst(id);
  }

  /** A retry is likely, or Postgres does not answer or may have lost commits: Redis may know the outcome. */
  private async readThenClaim(request: ClaimRequest, cache: RecordCache): Promise<ClaimResult> {
    const read = cache.read(request.id);
    const early = read && (await read.early);
    if (early && !isPending(early) && canAnswerFromCache(early, request)) {
      this.order.found(request.id);
      return fromCache(early);
    }
    const askedAt = performance.now();
    const result = await this.claimInArbiter(request, read);
    if (result.claimed) return result;
    cache.fill(result.record, askedAt);
    return result;
  }

  /**
   * The key is known after all. Redis may have the outcome of a row that is in progress, and most often has a copy of
   * one that is completed.
   */
  private async readAfterClaim(
    request: ClaimRequest,
    standing: ClaimResult & { claimed: false },
    askedAt: number,
    cache: RecordCache,
  ): Promise<ClaimResult> {
    const read = cache.read(request.id);
    const late = read && (await read.early);
    if (late?.state === 'completed') {
      if (late.pending) return this.claimInArbiter(request, read);
      // A copy of a claim before the one that stands is out of date: Redis has failed over to an old state.
      if (late.fence >= standing.record.fence) return fromCache(late);
    }
    cache.fill(standing.record, askedAt);
    return standing;
  }

  /**
   * @param read of Redis, if it was asked already
   * @param readAfter where to look if the key turns out to be known
   */
  async claimInArbiter(
    request: ClaimRequest,
    read?: CacheRead,
    readAfter?: RecordCache,
  ): Promise<ClaimResult> {
    const { monitor, arbiter, pending, cache } = this.tiers;
    let askedAt: number;
    let result: ClaimResult;
    try {
      if (pending.holds(request.id)) await this.settlePending(request.id);
      askedAt = performance.now();
      this.order.claimSent();
      try {
        result = await arbiter.claim(request);
        monitor.answered('claim', askedAt);
      } catch (error) {
        throw monitor.failed('claim', askedAt, error);
      } finally {
        this.order.claimEnded();
      }
    } catch (error) {
      if (!(error instanceof StoreUnavailableError)) throw error;
      return this.answerWithoutArbiter(request, error, read);
    }
    if (!result.claimed) {
      this.order.found(request.id);
      return readAfter ? this.readAfterClaim(request, result, askedAt, readAfter) : result;
    }
    this.order.foundNone(request.id);
    if (result.claim.attempt > 1) return this.adoptOrKeep(result, request);
    cache?.markInFlight(result.claim, request.lease);
    return result;
  }

  private async answerWithoutArbiter(
    request: ClaimRequest,
    error: StoreUnavailableError,
    read: CacheRead | undefined,
  ): Promise<ClaimResult> {
    const { pending, cache, retention } = this.tiers;
    // The claim may have landed although its reply was lost: no handler will run under it, so it is released.
    if (error.operation === 'claim' && error.sent)
      pending.release({ ...request, fence: 0, attempt: 0 }, retention);
    const late = await (read ?? cache?.read(request.id))?.answer;
    if (late && canAnswerFromCache(late, request)) return fromCache(late);
    throw error;
  }

  private async adoptOrKeep(
    taken: ClaimResult & { claimed: true },
    request: ClaimRequest,
  ): Promise<ClaimResult> {
    const adopted = await this.adoptPendingOutcome(taken.claim);
    if (adopted) return { claimed: false, record: adopted };
    this.tiers.cache?.markInFlight(taken.claim, request.lease);
    return taken;
  }

  /**
   * An owner that could not reach Postgres has left its outcome in Redis: it becomes that of the claim which has taken
   * its key over. Redis is asked after the takeover, as until then the owner could renew its lease and leave one; and
   * it gets its full timeout. What it has may be of a record that an operator has deleted since, if it has failed over
   * to an old state: under the new claim nothing else would keep it out.
   * @throws StoreUnavailableError if Postgres cannot be asked about that; the claim is given back
   */
  private async adoptPendingOutcome(claim: Claim): Promise<IdempotencyRecord | undefined> {
    const left = await this.tiers.cache?.ask('find', (store) => store.find(claim.id)).catch(() => undefined);
    if (left?.state !== 'completed' || left.fingerprint !== claim.fingerprint) return undefined;
    if (await this.isForgotten(left, claim)) return undefined;
    try {
      const result = await this.complete(claim, left.outcome);
      return result.recorded ? left : result.record;
    } catch (error) {
      if (!(error instanceof StoreUnavailableError)) throw error;
      return left; // it waits for Postgres in memory now
    }
  }

  private async isForgotten(left: Claim, claim: Claim): Promise<boolean> {
    const { monitor, arbiter, pending, retention } = this.tiers;
    try {
      return await monitor.ask('find', async () => (await arbiter.isForgotten?.(left)) ?? false);
    } catch (error) {
      pending.release({ ...claim, fence: 0, attempt: 0 }, retention); // it stays an orphan: its handler may have run
      throw error;
    }
  }

  /**
   * Brings an outcome of this key that waits in memory to the arbiter.
   * @throws UnrecordedOutcomeError if it still cannot be brought there: its handler has run
   */
  private async settlePending(id: RecordId): Promise<void> {
    await this.tiers.pending.settle(id).catch((error: unknown) => {
      throw error instanceof StoreError ? new UnrecordedOutcomeError(error) : error;
    });
  }
}

/** What stands in a claim's way, by the word of the cache. */
function fromCache(record: IdempotencyRecord): ClaimResult {
  return { claimed: false, record, isHint: record.state === 'in_progress' };
}

/** A finished record, or a hint that this very request is in flight, needs no arbiter. */
function canAnswerFromCache(record: IdempotencyRecord, request: ClaimRequest): boolean {
  if (record.state === 'completed') return true;
  // The arbiter decides about another fingerprint: the hint may be of a claim that has been given back since.
  const another = record.token !== request.token && record.fingerprint === request.fingerprint;
  return !request.bypassCache && another && record.leaseRemaining > 0;
}
