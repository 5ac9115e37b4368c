import {
  IdempotencyError,
  OverloadedError,
  UnreadableRecordError,
  UnrecordedOutcomeError,
  type StoreError,
} from './errors';
import type { InFlightResult } from './in-flight-requests';
import type { IdempotencyRecord } from './record';
import { overloaded } from './waiting-room';

/** Seconds. */
const RETRY_AFTER_OUTAGE = 5;

/** @param lease milliseconds for which the key is held, if its record does not tell */
export function inFlight(lease: number, record?: IdempotencyRecord): IdempotencyError {
  const leaseRemaining = record?.state === 'in_progress' ? record.leaseRemaining : lease;
  return new IdempotencyError(
    'in_flight',
    'A request with this key is still being processed. Retry later with the same key to get its response.',
    { retryAfter: Math.min(Math.max(1, Math.ceil(leaseRemaining / 1000)), RETRY_AFTER_OUTAGE) },
  );
}

export function mismatch(): IdempotencyError {
  return new IdempotencyError(
    'fingerprint_mismatch',
    'This key was used for a different request. Use a new key, or send the first request again unchanged.',
  );
}

export function outcomeUnknown(): IdempotencyError {
  return new IdempotencyError(
    'outcome_unknown',
    'A request with this key was interrupted and its outcome is unknown. It is not executed again until an operator has settled it.',
  );
}

export function notRecorded(cause: StoreError): IdempotencyError {
  return new IdempotencyError(
    'outcome_not_recorded',
    'The request was executed, but its outcome could not be recorded yet. Retry later with the same key to get it.',
    { retryAfter: RETRY_AFTER_OUTAGE, cause },
  );
}

/** Of the system that kept responses before this module. */
export function legacyUnavailable(cause: unknown): IdempotencyError {
  return new IdempotencyError(
    'store_unavailable',
    'An earlier response to this key could not be looked up, so nothing was executed. Retry later with the same key.',
    { retryAfter: RETRY_AFTER_OUTAGE, cause },
  );
}

/** What it means for the requests of a key that the store could not be asked about it. */
export function unavailable(error: StoreError): InFlightResult & { kind: 'unavailable' } {
  const refused = (
    refusal: IdempotencyError,
    isOutage = false,
  ): InFlightResult & { kind: 'unavailable' } => ({
    kind: 'unavailable',
    error: refusal,
    isOutage,
    shed: error instanceof OverloadedError ? error.reason : undefined,
  });
  if (error instanceof OverloadedError)
    return refused(overloaded('Too many requests wait for the store', error));
  if (error instanceof UnrecordedOutcomeError) return refused(notRecorded(error));
  const refusal = new IdempotencyError(
    'store_unavailable',
    'The idempotency store cannot be reached, so nothing was executed. Retry later with the same key.',
    { retryAfter: RETRY_AFTER_OUTAGE, cause: error },
  );
  return refused(refusal, !(error instanceof UnreadableRecordError));
}
