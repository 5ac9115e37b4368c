import { ClaimContext } from './context';
import { StoreError } from './errors';
import type { Lease } from './lease';
import type { RequestObserver } from './ports';
import type { Claim, Outcome } from './record';
import { notRecorded } from './refusals';
import type { CompleteResult, IdempotencyStore } from './store';
import {
  releasable,
  releaseClaim,
  replayWinner,
  type ProtectedRequest,
  type RunResult,
  type WaitForWinner,
  type Work,
} from './work';

/** The key is this request's. */
export interface Claimed {
  readonly kind: 'claimed';
  readonly claim: Claim;
  /** Renewed from the claim on. */
  readonly lease: Lease;
}

/** Runs handlers under a claim of theirs, and records what becomes of them. */
export class ClaimedExecutions {
  constructor(
    private readonly store: IdempotencyStore,
    private readonly observer: RequestObserver,
    private readonly waitForWinner: WaitForWinner,
  ) {}

  async run(request: ProtectedRequest, { claim, lease }: Claimed, work: Work): Promise<RunResult> {
    this.observer.claimed(request, claim);
    if (!request.legacy) this.observer.firstRequest(); // else its handler may not run
    let outcome: Outcome | undefined;
    let completion: CompleteResult;
    this.observer.inFlight(1);
    try {
      try {
        outcome = await work(new ClaimContext(claim, lease));
      } catch (error) {
        await releaseClaim(this.store, releasable(claim, error));
        throw error;
      }
      if (!outcome) {
        await releaseClaim(this.store, claim);
        return { kind: 'executed', outcome, recorded: false };
      }
      try {
        completion = await this.store.complete(claim, outcome, () => lease.heldUntil);
      } catch (error) {
        throw error instanceof StoreError ? notRecorded(error) : error;
      }
      if (completion.recorded) return { kind: 'executed', outcome, recorded: true };
      this.observer.leaseLost();
      return await replayWinner(completion.record, request, this.waitForWinner);
    } finally {
      this.observer.inFlight(-1);
      lease.stop();
    }
  }
}
