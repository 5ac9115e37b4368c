import type { ShedReason } from './ports';
import type { Tier } from './record';

/** Stable, documented reasons for which the module refuses to run a handler or to answer with its response. */
export type IdempotencyErrorCode =
  | 'key_missing'
  | 'key_invalid'
  | 'body_too_deep'
  | 'fingerprint_mismatch'
  | 'in_flight'
  | 'outcome_unknown'
  | 'outcome_not_stored'
  | 'outcome_not_recorded'
  | 'store_unavailable'
  | 'overloaded'
  | 'transaction_conflict'
  | 'transaction_timeout'
  | 'transaction_broken';

/*
 * Each exported error is marked with a symbol that all installed copies of the package share, so that its guard holds
 * where `instanceof` does not.
 */
const IDEMPOTENCY = Symbol.for('nestjs-idempotency.error');
const STORE_UNAVAILABLE = Symbol.for('nestjs-idempotency.store-unavailable');
const UNREADABLE_RECORD = Symbol.for('nestjs-idempotency.unreadable-record');
const TRANSACTION_ENDED = Symbol.for('nestjs-idempotency.transaction-ended');
const SETUP = Symbol.for('nestjs-idempotency.setup');

/** Whether this is an error that is marked so. */
export function isMarked(error: unknown, mark: symbol): boolean {
  return typeof error === 'object' && error !== null && mark in error;
}

/**
 * Every refusal of this module. `code` says which, `retryAfter` (seconds) when a retry may succeed.
 * Test with {@link isIdempotencyError}, which also holds across two installed copies of the package.
 */
export class IdempotencyError extends Error {
  readonly [IDEMPOTENCY] = true;

  constructor(
    readonly code: IdempotencyErrorCode,
    message: string,
    readonly details: { readonly retryAfter?: number; readonly cause?: unknown } = {},
  ) {
    super(message, { cause: details.cause });
    this.name = 'IdempotencyError';
  }
}

export function isIdempotencyError(error: unknown): error is IdempotencyError {
  return isMarked(error, IDEMPOTENCY);
}

const LABELS: Readonly<Record<Tier, string>> = { redis: 'Redis', postgres: 'Postgres', store: 'The store' };

/** For messages. */
export function labelOf(tier: Tier): string {
  return LABELS[tier];
}

/** A store did not do what it was asked, and the application is not at fault: each request meets it as a 503. */
export abstract class StoreError extends Error {
  /** @param sent false if the operation never left this process, so that it cannot have taken effect */
  constructor(
    readonly tier: Tier,
    readonly operation: string,
    message: string,
    cause: unknown,
    readonly sent: boolean,
  ) {
    super(message, { cause });
  }
}

/**
 * A store could not be asked, or did not answer in time: whether the operation took effect is unknown.
 * Test with {@link isStoreUnavailableError}.
 */
export class StoreUnavailableError extends StoreError {
  readonly [STORE_UNAVAILABLE] = true;

  /** @param sent false if the operation never left this process, so that it cannot have taken effect */
  constructor(tier: Tier, operation: string, cause: unknown, sent = true) {
    super(tier, operation, `${labelOf(tier)} is unavailable (${operation}): ${reasonOf(cause)}`, cause, sent);
    this.name = 'StoreUnavailableError';
  }
}

export function isStoreUnavailableError(error: unknown): error is StoreUnavailableError {
  return isMarked(error, STORE_UNAVAILABLE);
}

/**
 * The store that decides was asked, but holds a record that cannot be read here: sealed with a key that is missing, or
 * written by something else. This is not an outage: the handler may have run, so under no policy does it run again.
 * Test with {@link isUnreadableRecordError}.
 */
export class UnreadableRecordError extends StoreError {
  readonly [UNREADABLE_RECORD] = true;

  constructor(tier: Tier, operation: string, cause: unknown) {
    super(tier, operation, `${labelOf(tier)} cannot be read (${operation}): ${reasonOf(cause)}`, cause, true);
    this.name = 'UnreadableRecordError';
  }
}

export function isUnreadableRecordError(error: unknown): error is UnreadableRecordError {
  return isMarked(error, UNREADABLE_RECORD);
}

/**
 * The operation waited in a queue of this process for too long, or found it full, while the store itself answered.
 * This is not an outage, so nothing runs unprotected because of it.
 */
export class OverloadedError extends StoreUnavailableError {
  constructor(
    tier: Tier,
    operation: string,
    /** What was full, as the label of a metric. */
    readonly reason: Exclude<ShedReason, 'waiters_of_key' | 'waiters' | 'waiting_bytes'>,
    sent = false,
  ) {
    super(tier, operation, 'the queue of this process is too long', sent);
    this.name = 'OverloadedError';
    this.message = `This process is overloaded (${operation}): the queue for ${labelOf(tier)} is too long`;
  }
}

/** The outcome of this key waits in this process for the store, so its handler has run: under no policy does it run again. */
export class UnrecordedOutcomeError extends StoreUnavailableError {
  constructor(cause: StoreError) {
    super(cause.tier, cause.operation, cause.cause, cause.sent);
    this.name = 'UnrecordedOutcomeError';
  }
}

/** The outcome of this claim is not to be recorded any more: an operator has deleted its record. */
export class ForgottenRecordError extends Error {
  constructor(
    message = 'An operator has deleted the record of this request, so its outcome is not recorded.',
  ) {
    super(message);
    this.name = 'ForgottenRecordError';
  }
}

/** The client of a request that waited has left, so nothing is answered. */
export class ClientLeftError extends Error {
  constructor() {
    super('The client has left before its request was answered.');
    this.name = 'ClientLeftError';
  }
}

/**
 * A query was made in a transaction that has ended, so it was refused: it would be committed without the response of its
 * request. Test with {@link isTransactionEndedError}.
 */
export class TransactionEndedError extends Error {
  readonly [TRANSACTION_ENDED] = true;
  readonly code = 'transaction_ended';

  /** @param which that of the request, or one within it that was rolled back */
  constructor(which: 'request' | 'nested' = 'request') {
    super(
      which === 'request'
        ? 'The transaction of this request has ended, so its queries are refused. ' +
            'Await all work before the handler returns, or start work that outlives it in outside().'
        : 'This query belongs to a nested transaction that was rolled back. ' +
            'Await all work before the nested transaction returns.',
    );
    this.name = 'TransactionEndedError';
  }
}

export function isTransactionEndedError(error: unknown): error is TransactionEndedError {
  return isMarked(error, TRANSACTION_ENDED);
}

/** For what a start may do later: rethrows any error but that of a store that cannot be asked, or read, now. */
export function unlessUnavailable(error: unknown): void {
  if (!(error instanceof StoreError)) throw error;
}

/**
 * The application is not set up for the module. It is thrown at start, and its message says how to fix it.
 * Test with {@link isIdempotencySetupError}.
 */
export class IdempotencySetupError extends Error {
  readonly [SETUP] = true;

  constructor(message: string, options?: ErrorOptions) {
    super(`IdempotencyModule: ${message}`, options);
    this.name = 'IdempotencySetupError';
  }
}

export function isIdempotencySetupError(error: unknown): error is IdempotencySetupError {
  return isMarked(error, SETUP);
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
