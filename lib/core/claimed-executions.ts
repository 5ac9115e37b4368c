import type { RequestObserver } from './ports';
import type { Policy } from './policy';
import { ClaimContext, runAsItIs, type ContextSource } from './context';
import { StoreError } from './errors';
import type { Lease } from './lease';
import type {
  Claim,
  CompletedRecord,
  IdempotencyRecord,
  InProgressRecord,
  Outcome,
  RecordId,
  Tier,
} from './record';
import { inFlight, mismatch, notRecorded } from './refusals';
import type { CompleteResult, IdempotencyStore } from './store';
import type { WorkInTransaction } from './transaction';
import type { WaitingRequest } from './waiting-room';

export interface ProtectedRequest extends WaitingRequest {
  readonly id: RecordId;
  readonly fingerprint: string;
  readonly policy: Policy;
  /** What runs, such as the name of a route. @default its scope */
  readonly name?: string;
  /**
   * Asks the system that recorded outcomes before this module, once the key is this request's, and before its work.
   * Nothing runs if it rejects.
   */
  readonly legacy?: () => Promise<Outcome | undefined>;
}

/**
 * Runs the handler. Its outcome is recorded; without one, the key is released.
 * @param transaction the one that it runs in
 */
export type Work = (claim: ContextSource, transaction?: WorkInTransaction) => Promise<Outcome | undefined>;

export type RunResult =
  | { readonly kind: 'executed'; readonly outcome: Outcome | undefined; readonly recorded: boolean }
  /**
   * `tier`: where it was read; undefined for the outcome of another request of this process.
   * `legacy`: by the system that recorded outcomes before this module.
   */
  | {
      readonly kind: 'replayed';
      readonly outcome: Outcome;
      readonly tier?: Tier;
      readonly legacy?: true;
    };

/** The key is this request's. */
export interface Claimed {
  readonly kind: 'claimed';
  readonly claim: Claim;
  /** Renewed from the claim on. */
  readonly lease: Lease;
}

/** Runs handlers under a claim of theirs, and records what becomes of them. */
export class ClaimedExecutions {
  /** @param waitForWinner for the outcome of the request that took the key over */
  constructor(
    private readonly store: IdempotencyStore,
    private readonly observer: RequestObserver,
    private readonly waitForWinner: (
      record: InProgressRecord,
      request: ProtectedRequest,
    ) => Promise<CompletedRecord | undefined>,
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
      return await this.replayWinner(completion.record, request);
    } finally {
      this.observer.inFlight(-1);
      lease.stop();
    }
  }

  /** The lease lapsed and another request took over: what that one records is what every retry gets. */
  private async replayWinner(record: IdempotencyRecord, request: ProtectedRequest): Promise<RunResult> {
    this.observer.leaseLost();
    const winner = record.state === 'completed' ? record : await this.waitForWinner(record, request);
    if (!winner) throw inFlight(request.policy.lease);
    if (winner.fingerprint !== request.fingerprint) throw mismatch();
    return replay(winner);
  }
}

/** Without a claim, as no store could be asked for one. */
export async function executeUnprotected({ id }: ProtectedRequest, work: Work): Promise<RunResult> {
  const signal = new AbortController().signal;
  const context = { key: id.key, attempt: 1, fence: 0, outside: runAsItIs, signal };
  const outcome = await work({ context });
  return { kind: 'executed', outcome, recorded: false };
}

/** Before its work began, nothing was executed under the claim; but under an orphan that it took over, perhaps. */
export class NotBegunError extends Error {
  constructor(override readonly cause: unknown) {
    super('The work did not begin', { cause });
    this.name = 'NotBegunError';
  }
}

/** How a claim is given back after this error. */
export function releasable(claim: Claim, error: unknown): Claim {
  return error instanceof NotBegunError ? { ...claim, fence: 0 } : claim;
}

/** A store that cannot be reached keeps the release and tries it again; the caller's answer does not wait for it. */
export async function releaseClaim(store: IdempotencyStore, claim: Claim): Promise<void> {
  await store.release(claim).catch((error: unknown) => {
    if (!(error instanceof StoreError)) throw error;
  });
}

export function replay({ outcome, tier }: CompletedRecord): RunResult {
  return { kind: 'replayed', outcome, tier };
}
