import type { Claim, Tier } from './record';

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

/** A request, by what is told of it. */
export interface ObservedRequest {
  /** Undefined if it has no valid key. */
  readonly id?: { readonly hash: string; readonly key?: string };
  /** Its method and pattern, such as `POST /leads/:id`; undefined if it has none. */
  readonly routePattern?: string;
  /** Milliseconds that it has waited for another request of its key. */
  readonly waited?: number;
}

/** A claim whose owner is lost. */
export interface Orphan {
  /** Of its record. */
  readonly hash: string;
  /** Method and path; undefined for other work than an HTTP request. */
  readonly route: string | undefined;
  readonly attempt: number;
  /** Seconds since its lease lapsed. */
  readonly age: number;
}

/** Told what becomes of requests, at the one place that knows it. Metrics, events and traces are made of this. */
export interface RequestObserver {
  /** The key is this request's. With an attempt above 1 it was taken over from an owner that is lost. */
  claimed(request: ObservedRequest, claim: Claim): void;
  /** A handler runs under a new claim. */
  firstRequest(): void;
  /** A handler of this process runs under a claim, or in a transaction: one more, or one less. */
  inFlight(change: 1 | -1): void;
  leaseLost(): void;
  /** Too many wait, so it was turned away. That it has ended is told as well. */
  shed(request: ObservedRequest, reason: ShedReason): void;
  /** By how much the waiting requests, and the bytes of their bodies, have changed. */
  waiting(requests: number, bytes: number): void;
  /** @param tier where a replay was read; undefined for the response of another request of this process */
  ended(request: ObservedRequest, outcome: RequestOutcome, tier?: Tier): void;
  /** Told once, by one of the processes of the application. */
  orphaned(orphan: Orphan): void;
}

/** What is counted of the stores, where they know it. What becomes of the counts is another's matter. */
export interface Metrics extends Pick<RequestObserver, 'leaseLost'> {
  /**
   * From now on requests are counted by route.
   * @param known counted from the start, so that the increase by their first request shows
   */
  labelRoutes(known: Iterable<string>): void;
  storeOperation(tier: Tier, operation: string, seconds: number): void;
  storeError(tier: Tier): void;
  tierUp(tier: Tier, up: boolean): void;
  tierDisabled(tier: Tier): void;
  /** What stands in the table; `oldest` in seconds. */
  orphansSeen(seen: { readonly count: number; readonly oldest: number }): void;
  /** @param at monotonic time (ms) at which this process last counted the orphans, or first awaits it */
  orphansSought(at: number): void;
  /** @param at monotonic time (ms) at which this process' last pass of the cleanup ended, or its first is awaited */
  cleanedUp(at: number): void;
  /** An outcome or a release that waits for the arbiter: one more, or one less. */
  pendingWrite(change: 1 | -1): void;
}

/** The spans of operations that go to a store together. */
export interface BatchTracing {
  /** An item of the operation that the caller is in. */
  add(item: object): void;
  /** These items are sent. @returns to be told of their end; undefined if none of them is traced */
  begin(operation: string, items: readonly object[]): ((error?: unknown) => void) | undefined;
}
