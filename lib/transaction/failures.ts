import { HttpException } from '@nestjs/common';
import { IdempotencyError, isIdempotencyError } from '../core/errors';

/** Seconds. What conflicts is over soon; an outage may not be. */
const RETRY_AFTER = { conflict: 1, outage: 5 } as const;

const CONFLICTS = new Set([
  '40001', // serialization failure
  '40P01', // deadlock
]);

/** Errors wrap others, but not without end: one may wrap itself. */
const MOST_WRAPPERS = 10;

/** The error and what it wraps: TypeORM wraps Postgres' own, and the application may wrap that one. */
function* unwrapped(error: unknown): Iterable<object> {
  let inner = error;
  for (let depth = 0; depth < MOST_WRAPPERS && typeof inner === 'object' && inner !== null; depth++) {
    yield inner;
    if (inner instanceof HttpException || isIdempotencyError(inner)) return; // it says itself what is answered
    const { driverError, cause } = inner as { driverError?: unknown; cause?: unknown };
    inner = driverError ?? cause;
  }
}

/** Whether Postgres has ended a transaction because of another one, and the same would succeed later. */
export function isConflict(error: unknown): boolean {
  for (const { code } of unwrapped(error) as Iterable<{ code?: unknown }>)
    if (typeof code === 'string' && CONFLICTS.has(code)) return true;
  return false;
}

export function conflict(cause: unknown): IdempotencyError {
  return new IdempotencyError(
    'transaction_conflict',
    'Another transaction conflicted with this one, so this one was rolled back. Retry with the same key.',
    { retryAfter: RETRY_AFTER.conflict, cause },
  );
}

export function timedOut(timeout: number): IdempotencyError {
  return new IdempotencyError(
    'transaction_timeout',
    `The request took longer than its transaction may (${timeout} ms), so it was rolled back. Retry later with the same key.`,
    { retryAfter: RETRY_AFTER.outage },
  );
}

export function endedByHandler(cause: unknown): IdempotencyError {
  return new IdempotencyError(
    'transaction_broken',
    'The handler has ended the transaction of its request itself, so its outcome could not be committed with it. Leave COMMIT and ROLLBACK to the module.',
    { cause },
  );
}

/** A statement of the handler was not sent. */
export class RefusedError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'RefusedError';
  }
}

/** It would have ended the transaction. */
export function endRefused(): RefusedError {
  return new RefusedError(
    'COMMIT, ROLLBACK and PREPARE TRANSACTION are refused in the transaction of a request, which the module ends. ' +
      'Throw an error to have it rolled back, or use dataSource.transaction() for a part of it.',
  );
}

/** It would be rolled back with a request that it is to be independent of. */
export function leftRefused(): RefusedError {
  return new RefusedError(
    'A manager of the transaction of a request is used in outside(), or in work with its own key. What that writes must not be rolled back with ' +
      'the request. Use the DataSource or an injected repository there, and within a method with @Transactional() a method with REQUIRES_NEW.',
  );
}

/** It could be rolled back although the outcome of the work is recorded. */
export function aroundRefused(): IdempotencyError {
  return new IdempotencyError(
    'transaction_broken',
    'The work of IdempotencyService.execute() uses a transaction that was started around it. What it writes there could be rolled back once ' +
      'its outcome is recorded, and no retry would write it again. Start the transaction within the work, or use the ' +
      'DataSource or an injected repository there, and within a method with @Transactional() a method with REQUIRES_NEW.',
  );
}

/** What the caller is to have for what a handler has thrown, which can be anything, also what cannot be read. */
export function explained(error: unknown): unknown {
  try {
    if (isConflict(error)) return conflict(error);
    const refused = refusalIn(error);
    return refused ? new IdempotencyError('transaction_broken', refused.message, { cause: error }) : error;
  } catch {
    return error;
  }
}

function refusalIn(error: unknown): RefusedError | undefined {
  for (const each of unwrapped(error)) if (each instanceof RefusedError) return each;
  return undefined;
}

export function swallowedError(cause: unknown): IdempotencyError {
  return new IdempotencyError(
    'transaction_broken',
    'A statement of the handler has failed, so Postgres rolls its transaction back, but the handler has answered as if it had not. Let the error out, or put what may fail into a nested transaction within the handler.',
    { cause },
  );
}

export function madeReadOnly(cause: unknown): IdempotencyError {
  return new IdempotencyError(
    'transaction_broken',
    'The handler has made the transaction of its request read-only, so its outcome could not be recorded in it. Leave SET TRANSACTION to the module.',
    { cause },
  );
}

/** Postgres could not be asked to commit, or could not do it. */
export function lost(cause: unknown): IdempotencyError {
  return new IdempotencyError(
    'store_unavailable',
    'Postgres became unavailable before the commit, and the transaction was rolled back. Retry later with the same key.',
    { retryAfter: RETRY_AFTER.outage, cause },
  );
}

export function unresolved(cause: unknown): IdempotencyError {
  return new IdempotencyError(
    'outcome_not_recorded',
    'Postgres has not answered whether the transaction was committed. Retry later with the same key: it gets the response, or is executed.',
    { retryAfter: RETRY_AFTER.outage, cause },
  );
}
