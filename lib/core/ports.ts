import type { Tier } from './record';

/** What can become of a request. */
export const REQUEST_OUTCOMES = [
  'executed',
  'released',
  'replayed',
  'replayed_legacy',
  'unprotected',
  'key_missing',
  'key_invalid',
  'body_too_deep',
  'fingerprint_mismatch',
  'in_flight',
  'outcome_unknown',
  'outcome_not_stored',
  'outcome_not_recorded',
  'store_unavailable',
  'overloaded',
  'transaction_conflict',
  'transaction_timeout',
  'transaction_broken',
  'client_left',
  'failed',
] as const;

export type RequestOutcome = (typeof REQUEST_OUTCOMES)[number];

/** Why a request was turned away. */
export const SHED_REASONS = [
  'waiters_of_key',
  'waiters',
  'waiting_bytes',
  'claims_queued',
  'claims_late',
  'transactions_queued',
  'transactions_late',
] as const;

export type ShedReason = (typeof SHED_REASONS)[number];

/** What is counted, where the protocol and the stores know it. What becomes of the counts is another's matter. */
export interface Metrics {
  /**
   * From now on requests are counted by route.
   * @param known counted from the start, so that the increase by their first request shows
   */
  labelRoutes(known: Iterable<string>): void;
  /** @param route its method and pattern, such as `POST /leads/:id` */
  request(outcome: RequestOutcome, route?: string): void;
  replayedFrom(tier: Tier): void;
  /** A handler runs under a new claim. */
  firstRequest(): void;
  orphanTakenOver(): void;
  leaseLost(): void;
  /** A handler of this process runs under a claim, or in a transaction: one more, or one less. */
  inFlight(change: 1 | -1): void;
  shed(reason: ShedReason): void;
  /** By how much the waiting requests, and the bytes of their bodies, have changed. */
  waiting(requests: number, bytes: number): void;
  storeOperation(tier: Tier, operation: string, seconds: number): void;
  storeError(tier: Tier): void;
  tierUp(tier: Tier, up: boolean): void;
  tierDisabled(tier: Tier): void;
  /** What stands in the table; `oldest` in seconds. */
  orphansSeen(seen: { readonly count: number; readonly oldest: number }): void;
  /** @param at monotonic time (ms) at which this process' last pass of the cleanup ended, or its first is awaited */
  cleanedUp(at: number): void;
  /** An outcome or a release that waits for the arbiter: one more, or one less. */
  pendingWrite(change: 1 | -1): void;
}
