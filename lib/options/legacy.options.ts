import type { ExecutionContext } from '@nestjs/common';
import type { Duration } from './duration';

/** A response that another system kept, as a retry gets it. */
export interface LegacyResponse {
  readonly status: number;
  /** Those that belong to one connection or request, such as `Date` and `Set-Cookie`, are left out. */
  readonly headers?: Readonly<Record<string, string | number | readonly string[] | undefined>>;
  /** Text and bytes are sent as they are, null as nothing, anything else as JSON. */
  readonly body?: unknown;
}

/** A value that another system kept of work that is not an HTTP request. */
export interface LegacyValue {
  readonly value: unknown;
}

/**
 * What a lookup found: nothing (`undefined` or `null`), an answer, `'in_flight'` (409) while the other system still runs
 * the request, or `'fingerprint_mismatch'` (422) where it has the key of another request.
 */
export type LegacyAnswer<Found> = Found | 'in_flight' | 'fingerprint_mismatch' | null | undefined;

/**
 * Looks a key up in the system that kept responses before this module. `key` has no quotes: where that system kept the
 * header as it was sent, take it from the request.
 */
export type LegacyLookup = (
  key: string,
  context: ExecutionContext,
) => LegacyAnswer<LegacyResponse> | Promise<LegacyAnswer<LegacyResponse>>;

/** The same for `IdempotencyService.execute()`. */
export type LegacyValueLookup = (
  key: string,
) => LegacyAnswer<LegacyValue> | Promise<LegacyAnswer<LegacyValue>>;

/** How keys of the system before this module are treated. */
export interface LegacyOptions<Lookup = LegacyLookup> {
  /** Asked once the key is this request's, before its handler runs, and outside of its transaction. */
  lookup: Lookup;
  /** How long a lookup may take before it counts as failed. @default '2s' */
  timeout?: Duration;
  /**
   * Where a lookup fails: the request gets 503 (`store_unavailable`) and its handler does not run (`reject`), or the
   * handler runs (`execute`). An answer that cannot be replayed is 503 under both.
   * @default 'reject'
   */
  onError?: 'reject' | 'execute';
}
