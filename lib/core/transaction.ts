import type { IdempotencyContext } from './context';
import type { IdempotencyError } from './errors';
import type { TransactionPolicy } from './policy';
import type { Claim, IdempotencyRecord, Outcome, RecordId } from './record';
import type { CompleteResult } from './store';

export interface BeginRequest {
  readonly id: RecordId;
  readonly fingerprint: string;
  readonly policy: TransactionPolicy;
  /** What runs, for logs and for what is counted by it: the name of a route, for example. */
  readonly name: string;
  /** Monotonic time (ms) until which it may queue. */
  readonly deadline: number;
  /** A claim of this request that stands, and that the transaction is to complete. */
  readonly claim?: Claim;
}

export type BeginResult =
  | { readonly kind: 'begun'; readonly transaction: Transaction }
  | { readonly kind: 'standing'; readonly record: IdempotencyRecord }
  /** What stands is an orphan of the same request, or a claim that has expired: another claim has to take it over first. */
  | { readonly kind: 'lapsed' }
  /** Another transaction has the lock of the key: its handler runs. */
  | { readonly kind: 'locked' };

/**
 * Opens transactions in which handlers run, and which commit their effects together with the outcome. Each holds the lock
 * of its key from its begin to its end.
 */
export interface TransactionStore {
  /** @throws StoreUnavailableError */
  begin(request: BeginRequest): Promise<BeginResult>;

  /**
   * For those that wait: what stands, `locked` while a transaction of the key is open, undefined where there is neither.
   * @throws StoreUnavailableError
   */
  look(id: RecordId): Promise<IdempotencyRecord | 'locked' | undefined>;

  /** Runs work outside of the transaction that it is called in. */
  outside<T>(work: () => T): T;
}

export interface Transaction {
  readonly claim: Claim;
  readonly context: IdempotencyContext;
  /** Why it was rolled back while its handler ran. */
  readonly aborted: IdempotencyError | undefined;

  /** All that the work asks of the transaction's database joins it. */
  run<T>(work: () => Promise<T>): Promise<T>;

  /** @param listener called once if the transaction has to end before its handler */
  onAbort(listener: (reason: IdempotencyError) => void): void;

  /**
   * Commits the outcome together with what the handler has written. `recorded: false` means that another claim of the key
   * was committed meanwhile: nothing of this one is left.
   * @throws IdempotencyError if nothing is left of it, or if that is not known
   */
  complete(outcome: Outcome): Promise<CompleteResult>;

  /** Never rejects: what cannot be rolled back is cut off, which comes to the same. */
  rollBack(): Promise<void>;

  /** What the caller is to have for an error that the handler ended with. */
  explain(error: unknown): unknown;
}

/** What the work tells of itself, and is told of its transaction. */
export interface WorkInTransaction {
  /** The work failed with an outcome that counts: what it has written is undone, and its outcome is recorded alone. */
  undo(): void;
  /** The work has failed, so nothing of it will be committed. Those that answer for it do not have to wait for its locks. */
  rollBack: Transaction['rollBack'];
  onAbort: Transaction['onAbort'];
  explain: Transaction['explain'];
}
