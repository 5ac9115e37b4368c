import type { ExecutionContext } from '@nestjs/common';

/** A response that another system kept, as a retry shall get it. */
export interface LegacyResponse {
  readonly status: number;
  /** Those that belong to one connection or request, such as `Date` and `Set-Cookie`, are left out. */
  readonly headers?: Readonly<Record<string, string | number | readonly string[] | undefined>>;
  /** Text and bytes are sent as they are, null as nothing, anything else as JSON. */
  readonly body?: unknown;
}

/** A value that another system kept of work that is no HTTP request. */
export interface LegacyValue {
  readonly value: unknown;
}

/**
 * What a lookup found: nothing (`undefined` or `null`), an answer, `'in_flight'` (409) while the other system still runs
 * the request, or `'fingerprint_mismatch'` (422) where it has the key of another request.
 */
export type LegacyAnswer<Found> = Found | 'in_flight' | 'fingerprint_mismatch' | null | undefined;

/** Looks a key up in the system that kept responses before this module. */
export type LegacyLookup = (
  key: string,
  context: ExecutionContext,
) => LegacyAnswer<LegacyResponse> | Promise<LegacyAnswer<LegacyResponse>>;

/** The same for `IdempotencyService.execute()`. */
export type LegacyValueLookup = (
  key: string,
) => LegacyAnswer<LegacyValue> | Promise<LegacyAnswer<LegacyValue>>;
