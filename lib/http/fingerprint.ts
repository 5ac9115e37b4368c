import { hash } from 'node:crypto';
import type { ExecutionContext, VersioningOptions } from '@nestjs/common';
import { bytesOf } from '../core/record';
import type { RouteOptions } from '../options/resolve';
import { rawRequest, rewrittenFrom, target, type PlatformRequest } from './request';
import { spelledBody } from './request-body';
import { requestedVersion } from './requested-version';
import { spelledFiles } from './uploaded-files';

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
    ? digest(given(await options.fingerprint(context)))
    : requestFingerprint(context, versioning);
}

/** {@link fingerprintOf} a route without a `fingerprint` option. */
export function requestFingerprint(context: ExecutionContext, versioning?: VersioningOptions): string {
  const request = context.switchToHttp().getRequest<PlatformRequest>();
  const { path, query } = target(request);
  const version = requestedVersion(rawRequest(request), versioning);
  const versions = version === undefined ? [] : [version];
  const sent = rewrittenFrom(request);
  const urls = sent === undefined ? [] : [{ sent }];
  const head = JSON.stringify([request.method, path, query, ...urls, ...versions]);
  const body = spelledBody(request);
  const files = spelledFiles(request);
  // No part holds a line break: JSON escapes it.
  return digest(files === undefined ? `${head}\n${body}` : `${head}\n${body}\n${files}`);
}

function digest(compared: string | Uint8Array): string {
  return hash('sha256', compared, 'hex');
}

function given(answer: unknown): Buffer {
  if (typeof answer === 'string') return bytesOf(answer);
  throw new TypeError('The `fingerprint` option has to give a string: what must be equal in a retry');
}
