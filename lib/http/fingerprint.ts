import { createHash, hash } from 'node:crypto';
import type { ExecutionContext, VersioningOptions } from '@nestjs/common';
import { configure } from 'safe-stable-stringify';
import { IdempotencyError, isIdempotencyError } from '../core/errors';
import { bytesOf } from '../core/record';
import type { RouteOptions } from '../options/resolve';
import { rawRequest, rewrittenFrom, target, type PlatformRequest } from './request';
import { requestedVersion } from './requested-version';

/** Deeper than bodies are. Canonical JSON costs more per value the deeper it lies: 1 MB in 6,000 levels took 0.5 s. */
const DEEPEST = 500;

/** Stands for a number that JSON can spell and a double cannot hold, such as 1e400: no double prints like it. */
const BEYOND = 10n ** 309n;

/** Sorts properties, and refuses what has no JSON form instead of replacing it. */
const canonicalJson = configure({
  deterministic: true,
  circularValue: TypeError,
  strict: true,
  bigint: true,
});

/**
 * SHA-256, in hexadecimal, over what must be equal in a retry: the `fingerprint` option's answer, or method, path,
 * query, body, and the version asked for where that is not in the path. Other headers stay out: signatures and
 * timestamps of webhooks change with each delivery.
 */
export async function fingerprintOf(
  context: ExecutionContext,
  options: RouteOptions,
  versioning?: VersioningOptions,
): Promise<string> {
  return options.fingerprint
    ? hash('sha256', given(await options.fingerprint(context)), 'hex')
    : requestFingerprint(context, versioning);
}

/** {@link fingerprintOf} a route without a `fingerprint` option. */
export function requestFingerprint(context: ExecutionContext, versioning?: VersioningOptions): string {
  const request = context.switchToHttp().getRequest<PlatformRequest>();
  const { path, query } = target(request);
  const [kind, bytes] = bodyBytes(request.body);
  const version = requestedVersion(rawRequest(request), versioning);
  const versions = version === undefined ? [] : [version];
  const sent = rewrittenFrom(request);
  const urls = sent === undefined ? [] : [{ sent }];
  const head = JSON.stringify([request.method, path, query, ...urls, ...versions, kind]);
  if (typeof bytes === 'string') return hash('sha256', head + bytes, 'hex');
  return createHash('sha256').update(head).update(bytes).digest('hex');
}

function given(answer: unknown): Buffer {
  if (typeof answer === 'string') return bytesOf(answer);
  throw new TypeError('The `fingerprint` option has to give a string: what must be equal in a retry');
}

/** A body that is not parsed when interceptors start (multipart) counts as none. */
function bodyBytes(body: unknown): [kind: string, bytes: string | Buffer] {
  if (body === undefined) return ['none', ''];
  if (typeof body === 'string') return ['text', bytesOf(body)];
  if (body instanceof Uint8Array)
    return ['bytes', Buffer.from(body.buffer, body.byteOffset, body.byteLength)];
  return ['json', canonical(body)];
}

function canonical(body: unknown): string {
  try {
    assertComparable(body, []);
    return canonicalJson(body, finite) ?? '';
  } catch (cause) {
    if (isIdempotencyError(cause)) throw cause;
    throw new TypeError(
      'The parsed body holds something without a JSON form, so retries cannot be compared: set the `fingerprint` option',
      { cause },
    );
  }
}

function finite(_: string, value: unknown): unknown {
  if (value === Infinity) return BEYOND;
  return value === -Infinity ? -BEYOND : value;
}

function assertComparable(value: unknown, within: unknown[]): void {
  if (typeof value !== 'object' || value === null) return;
  // JSON.stringify makes {} of every one of them.
  if (value instanceof Map || value instanceof Set) throw new TypeError('The body holds a Map or a Set');
  if (within.length === DEEPEST) {
    if (within.includes(value)) throw new TypeError('The body refers to itself');
    throw new IdempotencyError(
      'body_too_deep',
      `The request body is nested more than ${DEEPEST} levels deep, too deeply to be compared with a retry.`,
    );
  }
  within.push(value);
  for (const member of Object.values(value)) assertComparable(member, within);
  within.pop();
}
