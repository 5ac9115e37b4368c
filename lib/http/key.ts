import type { ExecutionContext } from '@nestjs/common';
import type { IncomingMessage } from 'node:http';
import { parseItem } from 'structured-headers';
import { assertKey, invalidKey } from '../core/key';
import type { RouteOptions } from '../options/resolve';
import { rawRequest, type PlatformRequest } from './request';

/** Printable ASCII but for what would make it a structured field or a list: quote, backslash and comma. */
const BARE_KEY = /^[\x20-\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]+$/;

/**
 * The key of a request; undefined if it has none.
 * @throws IdempotencyError `key_invalid`, before any store is asked
 */
export async function keyOf(context: ExecutionContext, options: RouteOptions): Promise<string | undefined> {
  const key = options.key
    ? await options.key(context)
    : keyInHeaders(rawRequest(context.switchToHttp().getRequest<PlatformRequest>()), options.headers);
  if (key === undefined) return undefined;
  if (typeof key !== 'string') throw invalidKey('the `key` option gave something else than a string');
  assertKey(key, options.policy.maxKeyLength);
  return key;
}

function keyInHeaders(request: IncomingMessage, names: readonly string[]): string | undefined {
  const keys = new Set(
    names.flatMap((name) => valuesOf(request, name.toLowerCase())).map((value) => parseKey(value.trim())),
  );
  if (keys.size > 1) throw invalidKey('it was sent more than once, with different values');
  const [key] = keys;
  return key;
}

/** Node joins repeated headers in `headers`; only `headersDistinct` tells them apart (injected test requests lack it). */
function valuesOf(request: IncomingMessage, name: string): string[] {
  const { headersDistinct } = request as Partial<IncomingMessage>;
  return headersDistinct?.[name] ?? [request.headers[name] ?? []].flat();
}

/**
 * draft-ietf-httpapi-idempotency-key-header-07 makes the value a structured-field string (RFC 9651): `"abc"`.
 * Most clients send it bare, and many bare values (62 % of version 4 UUIDs: those that begin with a digit) are no
 * structured field at all, so `abc` is taken literally and names the same key as `"abc"`.
 */
function parseKey(value: string): string {
  if (!value.startsWith('"')) {
    if (value !== '' && !BARE_KEY.test(value)) {
      throw invalidKey('without quotes it may hold printable ASCII only, and no comma, quote or backslash');
    }
    return value;
  }
  let parsed: unknown;
  try {
    [parsed] = parseItem(value) as readonly unknown[];
  } catch {
    throw invalidKey('it begins with a quote, but is no structured-field string (RFC 9651)');
  }
  return parsed as string;
}
