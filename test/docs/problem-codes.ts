import type { IdempotencyErrorCode } from '../../lib';

/** Every code, with whether its answers carry `Retry-After`; the compiler refuses a list that lacks one. */
export const CODES: Record<IdempotencyErrorCode, boolean> = {
  key_missing: false,
  key_invalid: false,
  body_too_deep: false,
  fingerprint_mismatch: false,
  in_flight: true,
  outcome_unknown: false,
  outcome_not_stored: false,
  outcome_not_recorded: true,
  store_unavailable: true,
  overloaded: true,
  transaction_conflict: true,
  transaction_timeout: true,
  transaction_broken: false,
};
