import { performance } from 'node:perf_hooks';
import type { Claimed } from './claimed-executions';
import { StoreError } from './errors';
import type { InFlightResult } from './in-flight-requests';
import type { Lease } from './lease';
import type { RequestObserver } from './ports';
import type { TransactionPolicy } from './policy';
import type { Claim, Outcome } from './record';
import { notRecorded, unavailable } from './refusals';
import type { CompleteResult, IdempotencyStore } from './store';
import type { BeginResult, Transaction, TransactionStore, WorkInTransaction } from './transaction';
import {
  releasable,
  releaseClaim,
  replayWinner,
  type ProtectedRequest,
  type RunResult,
  type WaitForWinner,
  type Work,
} from './work';

/** The key is this request's, in a transaction that is open. */
export interface Begun {
  readonly kind: 'begun';
  readonly transaction: Transaction;
  /** Of a claim that the transaction completes. */
  readonly lease: Lease | undefined;
}

/** What the protocol does for both modes. */
export interface Claims {
  readonly claim: (request: ProtectedRequest) => Promise<Claimed | InFlightResult>;
  readonly waitForWinner: WaitForWinner;
}

/** Runs handlers in transactions, which commit what they have done together with their outcomes. */
export class TransactionalExecutions {
  constructor(
    private readonly store: IdempotencyStore,
    private readonly transactions: TransactionStore,
    private readonly observer: RequestObserver,
    private readonly claims: Claims,
  ) {}

  async begin(request: ProtectedRequest, transaction: TransactionPolicy): Promise<Begun | InFlightResult> {
    const { id, fingerprint, policy, name } = request;
    const deadline = performance.now() + policy.waitTimeout;
    const begin = (claim?: Claim): Promise<BeginResult> =>
      this.transactions.begin({
        id,
        fingerprint,
        policy: transaction,
        name: name ?? id.scope,
        deadline,
        claim,
      });
    try {
      const result = await begin();
      return result.kind === 'lapsed' ? await this.takeOver(request, begin) : foundOut(result);
    } catch (error) {
      return error instanceof StoreError ? unavailable(error) : { kind: 'failed', error };
    }
  }

  /**
   * An orphan of the other mode is taken over as always, and the transaction completes that claim: its owner may still
   * have an outcome to record, which only a committed claim keeps out.
   */
  private async takeOver(
    request: ProtectedRequest,
    begin: (claim: Claim) => Promise<BeginResult>,
  ): Promise<Begun | InFlightResult> {
    const claimed = await this.claims.claim(request);
    if (claimed.kind !== 'claimed') return claimed;
    const { claim, lease } = claimed;
    let result: Begun | InFlightResult = { kind: 'open' };
    try {
      result = foundOut(await begin(claim), lease);
      return result;
    } finally {
      if (result.kind !== 'begun') {
        lease.stop();
        await releaseClaim(this.store, { ...claim, fence: 0 }); // no handler ran under it, but one may have before it
      }
    }
  }

  async run(request: ProtectedRequest, begun: Begun, work: Work): Promise<RunResult> {
    const { transaction, lease } = begun;
    this.observer.claimed(request, transaction.claim);
    if (!request.legacy) this.observer.firstRequest(); // else its handler may not run
    const wanted = { undone: false };
    const told: WorkInTransaction = {
      undo: () => (wanted.undone = true),
      rollBack: () => transaction.rollBack(),
      onAbort: (listener) => transaction.onAbort(listener),
      explain: (error) => transaction.explain(error),
    };
    let outcome: Outcome | undefined;
    this.observer.inFlight(1);
    try {
      try {
        outcome = await transaction.run(() => work(transaction, told));
      } catch (error) {
        await this.giveUp(begun, error);
        throw transaction.aborted ?? transaction.explain(error);
      }
      if (transaction.aborted || !outcome) {
        await this.giveUp(begun);
        if (transaction.aborted) throw transaction.aborted;
        return { kind: 'executed', outcome: undefined, recorded: false };
      }
      const completion = await (wanted.undone
        ? this.completeAlone(transaction, outcome)
        : transaction.complete(outcome).catch((error: unknown) => this.failToCommit(begun, error)));
      if (completion.recorded) return { kind: 'executed', outcome, recorded: true };
      if (lease) this.observer.leaseLost();
      return await replayWinner(completion.record, request, this.claims.waitForWinner);
    } finally {
      this.observer.inFlight(-1);
      lease?.stop();
    }
  }

  private async failToCommit(begun: Begun, error: unknown): Promise<never> {
    await this.giveUp(begun);
    throw error instanceof StoreError ? unavailable(error).error : error;
  }

  /** The lock is free before the outcome is there: a duplicate that begins meanwhile is rolled back by it. */
  private async completeAlone(transaction: Transaction, outcome: Outcome): Promise<CompleteResult> {
    await transaction.rollBack();
    // No claim keeps others out, so Redis must not answer with an outcome that Postgres may still refuse.
    return this.store
      .complete(transaction.claim, outcome, () => -Infinity)
      .catch((error: unknown) => {
        throw error instanceof StoreError ? notRecorded(error) : error;
      });
  }

  private async giveUp({ transaction, lease }: Begun, error?: unknown): Promise<void> {
    await transaction.rollBack();
    if (lease) await releaseClaim(this.store, releasable(transaction.claim, error));
  }
}

function foundOut(result: BeginResult, lease?: Lease): Begun | InFlightResult {
  switch (result.kind) {
    case 'begun':
      return { ...result, lease };
    case 'locked':
      return result;
    case 'lapsed':
      return { kind: 'open' }; // it has changed again
    case 'standing': {
      const { record } = result;
      return record.state === 'completed' ? { kind: 'completed', record } : { kind: 'in progress', record };
    }
  }
}
