import type { ExecutionContext } from '@nestjs/common';
import type { IncomingMessage } from 'node:http';
import { parseItem } from 'structured-headers';
import { assertKey, invalidKey } from '../../core/key';
import type { RouteOptions } from '../../options/resolve';
import { valuesOf } from './header-values';
import { typeName, runOption } from './option-function';
import { rawRequest, requestOf } from '../platform';

/** Printable ASCII except what would make it a structured field or a list: quote, backslash and comma. */
const BARE_KEY = /^[\x20-\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]+$/;

/**
 * The key of a request; undefined if it has none.
 * @throws IdempotencyError `key_invalid`, before any store is asked; TypeError where the `key` option gives no string
 */
export async function keyOf(context: ExecutionContext, options: RouteOptions): Promise<string | undefined> {
  const { key } = options;
  if (!key) return headerKeyOf(context, options);
  return checked(await runOption('key', context, async () => givenKey(await key(context))), options);
}

/** {@link keyOf} a route without a `key` option. */
export function headerKeyOf(context: ExecutionContext, options: RouteOptions): string | undefined {
  const request = rawRequest(requestOf(context));
  return checked(keyInHeaders(request, options), options);
}

/** @throws TypeError for what is not text: that is the application's fault, not the sender's */
function givenKey(key: unknown): string | undefined {
  if (key === undefined || typeof key === 'string') return key;
  throw new TypeError(
    `The \`key\` option must return a string, or undefined where there is no key, not ${typeName(key)}`,
  );
}

function checked(key: string | undefined, options: RouteOptions): string | undefined {
  if (key === undefined) return undefined;
  assertKey(key, options.policy.maxKeyLength);
  return key;
}

function keyInHeaders(
  request: IncomingMessage,
  { headers, bareKeys }: Pick<RouteOptions, 'headers' | 'bareKeys'>,
): string | undefined {
  let key: string | undefined;
  for (const name of headers) {
    // HTTP's parser has stripped blanks and tabs. `trim()` takes more: a no-break space, so that two values were one.
    const lines = valuesOf(request, name.toLowerCase());
    if (bareKeys)
      for (const line of lines) key = agreed(key, line.startsWith('"') ? parseString(line) : bareKey(line));
    // Repeated lines are one value (RFC 9651, 4.2), and a list is not a string.
    else if (lines.length > 0) key = agreed(key, parseString(lines.join(', ')));
  }
  return key;
}

/** The one value that all of a header's lines have. */
export function agreed(key: string | undefined, another: string): string {
  if (key !== undefined && key !== another)
    throw invalidKey('it was sent more than once, with different values');
  return another;
}

/**
 * Most clients send the key without quotes, and many such values (62 % of version 4 UUIDs: those that begin with a
 * digit) are not structured fields at all, so `abc` is taken literally and names the same key as `"abc"`. What is a
 * structured field of another type is taken literally too: `1`, `01` and `1.0` are three keys.
 */
function bareKey(value: string): string {
  if (value !== '' && !BARE_KEY.test(value)) {
    throw invalidKey('without quotes it may hold printable ASCII only, and no comma, quote or backslash');
  }
  return value;
}

/**
 * draft-ietf-httpapi-idempotency-key-header-07 makes the value a structured-field string (RFC 9651): `"abc"`. It
 * defines no parameters, so those that come with it are not part of the key.
 */
function parseString(value: string): string {
  try {
    const [parsed] = parseItem(value) as readonly unknown[];
    if (typeof parsed === 'string') return parsed;
  } catch {
    // Refused below, as an item of another type is.
  }
  throw invalidKey('it is not a structured-field string (RFC 9651), such as "abc"');
}
