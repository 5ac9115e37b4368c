import { createHash } from 'node:crypto';
import type { ExecutionContext, VersioningOptions } from '@nestjs/common';
import { configure } from 'safe-stable-stringify';
import { IdempotencyError } from '../core/errors';
import type { RouteOptions } from '../options/resolve';
import { rawRequest, target, type PlatformRequest } from './request';
import { requestedVersion } from './requested-version';

/** Sorts properties, and refuses what has no JSON form instead of replacing it. */
const canonicalJson = configure({
  deterministic: true,
  circularValue: TypeError,
  strict: true,
  bigint: true,
});

/**
 * SHA-256, in hexadecimal, over what must be equal in a retry: the `fingerprint` option's answer, or method, path,
 * query, body, and the version asked for where that is not in the path. Other headers stay out: signatures and timestamps of webhooks change with each delivery.
 */
export async function fingerprintOf(
  context: ExecutionContext,
  options: RouteOptions,
  versioning?: VersioningOptions,
): Promise<string> {
  const hash = createHash('sha256');
  if (options.fingerprint) return hash.update(await options.fingerprint(context)).digest('hex');
  const request = context.switchToHttp().getRequest<PlatformRequest>();
  const { path, query } = target(request);
  const [kind, bytes] = bodyBytes(request.body);
  const version = requestedVersion(rawRequest(request), versioning);
  const versions = version === undefined ? [] : [version];
  return hash
    .update(JSON.stringify([request.method, path, query, ...versions, kind]))
    .update(bytes)
    .digest('hex');
}

/** A body that is not parsed when interceptors start (multipart) counts as none. */
function bodyBytes(body: unknown): [kind: string, bytes: string | Buffer] {
  if (body === undefined) return ['none', ''];
  if (typeof body === 'string') return ['text', body];
  if (body instanceof Uint8Array)
    return ['bytes', Buffer.from(body.buffer, body.byteOffset, body.byteLength)];
  return ['json', canonical(body)];
}

function canonical(body: unknown): string {
  try {
    return canonicalJson(body) ?? '';
  } catch (cause) {
    if (cause instanceof RangeError) {
      throw new IdempotencyError(
        'body_too_deep',
        'The request body is nested too deeply to be compared with a retry.',
        {
          cause,
        },
      );
    }
    throw new TypeError(
      'The parsed body holds something without a JSON form, so retries cannot be compared: set the `fingerprint` option',
      { cause },
    );
  }
}
