import { runAsItIs, type ContextSource } from './context';
import { StoreError } from './errors';
import type { Policy } from './policy';
import type {
  Claim,
  CompletedRecord,
  IdempotencyRecord,
  InProgressRecord,
  Outcome,
  RecordId,
  Tier,
} from './record';
import { inFlight, mismatch } from './refusals';
import type { IdempotencyStore } from './store';
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

/** Waits for the outcome of the request that took the key over; undefined if there is none in time. */
export type WaitForWinner = (
  record: InProgressRecord,
  request: ProtectedRequest,
) => Promise<CompletedRecord | undefined>;

/** Without a claim, as no store could be asked for one. */
export async function executeUnprotected({ id }: ProtectedRequest, work: Work): Promise<RunResult> {
  const signal = new AbortController().signal;
  const context = { key: id.key, attempt: 1, fence: 0, outside: runAsItIs, signal };
  const outcome = await work({ context });
  return { kind: 'executed', outcome, recorded: false };
}

export function replay({ outcome, tier }: CompletedRecord): RunResult {
  return { kind: 'replayed', outcome, tier };
}

/**
 * The work is done, but the key is another request's by now: what that one records is what every retry gets.
 * @param record what stands
 */
export async function replayWinner(
  record: IdempotencyRecord,
  request: ProtectedRequest,
  waitForWinner: WaitForWinner,
): Promise<RunResult> {
  const winner = record.state === 'completed' ? record : await waitForWinner(record, request);
  if (!winner) throw inFlight(request.policy.lease);
  if (winner.fingerprint !== request.fingerprint) throw mismatch();
  return replay(winner);
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
