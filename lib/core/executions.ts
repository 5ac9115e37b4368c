import { randomUUID } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { ClaimedExecutions, type Claimed } from './claimed-executions';
import { StoreError } from './errors';
import type { InFlightResult } from './in-flight-requests';
import type { LeaseManager } from './lease';
import type { RequestObserver } from './ports';
import type { Outcome } from './record';
import { legacyUnavailable, unavailable } from './refusals';
import type { ClaimResult, IdempotencyStore } from './store';
import type { TransactionStore } from './transaction';
import { TransactionalExecutions, type Begun } from './transactional-executions';
import {
  executeUnprotected,
  NotBegunError,
  releaseClaim,
  type ProtectedRequest,
  type RunResult,
  type WaitForWinner,
  type Work,
} from './work';

/** The right to run the handler of a key: a claim that is committed, or a transaction that has the key's lock. */
export type Right = Claimed | Begun;

export function isRight(found: Right | InFlightResult): found is Right {
  return found.kind === 'claimed' || found.kind === 'begun';
}

/** Runs handlers in the mode of their route. */
export class Executions {
  private readonly claimed: ClaimedExecutions;
  private readonly transactional: TransactionalExecutions | undefined;

  constructor(
    private readonly store: IdempotencyStore,
    private readonly observer: RequestObserver,
    private readonly leases: LeaseManager,
    waitForWinner: WaitForWinner,
    private readonly transactions: TransactionStore | undefined,
  ) {
    this.claimed = new ClaimedExecutions(store, observer, waitForWinner);
    this.transactional =
      transactions &&
      new TransactionalExecutions(store, transactions, observer, {
        claim: (request) => this.claim(request, true),
        waitForWinner,
      });
  }

  /** @param bypassCache whether a hint of a cache counts for nothing */
  begin(request: ProtectedRequest, bypassCache: boolean): Promise<Right | InFlightResult> {
    const { transaction } = request.policy;
    if (!transaction) return this.claim(request, bypassCache);
    if (!this.transactional) throw new TypeError('There is no store of transactions.');
    return this.transactional.begin(request, transaction);
  }

  /**
   * Runs the work, unless the system before this module has recorded its outcome: then that is recorded.
   * @param right undefined where no store can be asked for one
   */
  run(request: ProtectedRequest, right: Right | undefined, work: Work): Promise<RunResult> {
    const { legacy } = request;
    return legacy ? this.runUnlessKnown(request, right, work, legacy) : this.runWork(request, right, work);
  }

  private async runUnlessKnown(
    request: ProtectedRequest,
    right: Right | undefined,
    work: Work,
    legacy: () => Promise<Outcome | undefined>,
  ): Promise<RunResult> {
    let known: Outcome | undefined;
    try {
      const result = await this.runWork(request, right, async (claim, transaction) => {
        known = await claim.context.outside(legacy).catch((error: unknown) => {
          throw new NotBegunError(error);
        });
        if (known) {
          transaction?.undo(); // nothing is written there, so the outcome is recorded alone
          return known;
        }
        // The process may have been frozen meanwhile, and the key may be another request's by now.
        if (right?.lease && performance.now() >= right.lease.heldUntil)
          throw new NotBegunError(
            legacyUnavailable(new Error('The lease lapsed before there was an answer')),
          );
        if (right) this.observer.firstRequest();
        return work(claim, transaction);
      });
      return known && result.kind === 'executed'
        ? { kind: 'replayed', outcome: known, legacy: true }
        : result;
    } catch (error) {
      throw error instanceof NotBegunError ? error.cause : error;
    }
  }

  private runWork(request: ProtectedRequest, right: Right | undefined, work: Work): Promise<RunResult> {
    if (!right) return executeUnprotected(request, work);
    if (right.kind === 'claimed') return this.claimed.run(request, right, this.apart(work));
    if (!this.transactional) throw new TypeError('There is no store of transactions.');
    return this.transactional.run(request, right, work);
  }

  /** A claim is committed alone, so what its handler does must not be rolled back with a transaction around it. */
  private apart(work: Work): Work {
    const { transactions } = this;
    return transactions ? (claim) => transactions.outside(() => work(claim)) : work;
  }

  private async claim(
    { id, fingerprint, policy }: ProtectedRequest,
    bypassCache: boolean,
  ): Promise<Claimed | InFlightResult> {
    const claimedAt = performance.now();
    let result: ClaimResult;
    try {
      result = await this.store.claim({
        id,
        fingerprint,
        token: randomUUID(),
        lease: policy.lease,
        takeOver: policy.onOrphan === 'retry',
        bypassCache,
        durability: policy.durability,
      });
    } catch (error) {
      return error instanceof StoreError ? unavailable(error) : { kind: 'failed', error };
    }
    if (!result.claimed) {
      const { record, isHint } = result;
      return record.state === 'completed'
        ? { kind: 'completed', record }
        : { kind: 'in progress', record, isHint };
    }
    const { claim } = result;
    if (performance.now() < claimedAt + policy.lease)
      return { kind: 'claimed', claim, lease: this.leases.start(claim, policy.lease, claimedAt) };
    // The reply came so late that another request may own the key. No handler ran, but one may have before it.
    await releaseClaim(this.store, { ...claim, fence: 0 });
    return { kind: 'open' }; // each that followed goes by its own deadline from here on
  }
}
