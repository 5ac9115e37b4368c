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
  | 'store_unavailable';

const MARKER = Symbol.for('nestjs-idempotency.error');

/**
 * Every refusal of this module. `code` says which, `retryAfter` (seconds) when a retry may succeed.
 * Test with {@link isIdempotencyError}, which also holds across two installed copies of the package.
 */
export class IdempotencyError extends Error {
  readonly [MARKER] = true;

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
  return typeof error === 'object' && error !== null && MARKER in error;
}

/** A store could not be asked, or did not answer in time: whether the operation took effect is unknown. */
export class StoreUnavailableError extends Error {
  /** @param sent false if the operation never left this process, so that it cannot have taken effect */
  constructor(
    readonly tier: Tier,
    readonly operation: string,
    cause: unknown,
    readonly sent = true,
  ) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(`${tier === 'redis' ? 'Redis' : 'Postgres'} is unavailable (${operation}): ${reason}`, { cause });
    this.name = 'StoreUnavailableError';
  }
}

/**
 * The store that decides was asked, but holds a record that cannot be read here: sealed with a key that is missing, or
 * written by something else. Its handler may have run, so under no policy does it run again.
 */
export class UnreadableRecordError extends StoreUnavailableError {
  constructor(tier: Tier, operation: string, cause: unknown) {
    super(tier, operation, cause);
    this.name = 'UnreadableRecordError';
  }
}

/** The application is not set up for the module; thrown at start, with the way to mend it in its message. */
export class IdempotencySetupError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(`IdempotencyModule: ${message}`, options);
    this.name = 'IdempotencySetupError';
  }
}
