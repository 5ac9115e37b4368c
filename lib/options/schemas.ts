import ms, { type StringValue } from 'ms';
import { z } from 'zod';

/** Node's timers cannot wait longer (2^31 - 1 ms, almost 25 days). */
export const LONGEST_TIMER = 2_147_483_647;

/** Both stores count with it, from now into either direction: Postgres knows no time before 4713 BC. */
const THOUSAND_YEARS = 1_000 * 365.25 * 86_400_000;

export function duration(smallest: number, largest = THOUSAND_YEARS) {
  const allowed = `a duration from ${smallest} ms to ${largest === LONGEST_TIMER ? '24 days' : '1,000 years'}, as milliseconds or a string such as '250ms', '30s' or '24h'`;
  return z
    .union([z.number(), z.string()], { error: allowed })
    .transform(milliseconds)
    .refine((value) => value >= smallest && value <= largest, { error: allowed });
}

function milliseconds(value: number | string): number {
  const parsed = typeof value === 'number' ? value : /^\s*$/.test(value) ? NaN : ms(value as StringValue);
  return Number.isFinite(parsed) ? Math.round(parsed) : NaN;
}

export function oneOf<const T extends readonly string[]>(...values: T) {
  return z.enum(values, { error: `one of ${values.map((value) => `'${value}'`).join(', ')}` });
}

export function integer(smallest: number, largest: number) {
  const error = `a whole number from ${smallest} to ${largest}`;
  return z.number({ error }).int({ error }).min(smallest, { error }).max(largest, { error });
}

export function callback<T>() {
  return z.custom<T>((value) => typeof value === 'function', { error: 'a function' });
}

const NAMESPACE = 'a text of 1 to 64 characters without control characters, such as the name of the service';

export const boolean = z.boolean({ error: 'true or false' });
export const text = z.string({ error: 'a string' });
export const name = z.string({ error: 'a non-empty string' }).min(1, { error: 'a non-empty string' });
export const namespaceName = z.string({ error: NAMESPACE }).regex(/^[^\p{C}]{1,64}$/u, { error: NAMESPACE });

export const headerName = z
  .string({ error: 'a header name' })
  .regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/, { error: 'a header name, such as Idempotency-Key' });

/** A star is a legal character of a header name. Alone it would match those that change with each request. */
export const credentialHeader = headerName.regex(/[^*]/, { error: 'a header name, not * alone' });

/** Normalized, so that no space, quote or angle bracket of it can end the `Link` that carries it. */
export const httpUrl = z.url({
  protocol: /^https?$/,
  normalize: true,
  error: 'an absolute http or https URL, such as https://api.example.com/docs/idempotency',
});
