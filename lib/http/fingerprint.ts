import { hash } from 'node:crypto';
import type { ExecutionContext } from '@nestjs/common';
import { bytesOf } from '../core/record';
import type { RouteOptions } from '../options/resolve';
import { rewrittenFrom, target, type PlatformRequest } from './request';
import { spelledBody } from './request-body';
import { spelledFiles } from './uploaded-files';

/**
 * SHA-256, in hexadecimal, over what must be equal in a retry: the `fingerprint` option's answer, or method, path,
 * query and body. Headers stay out: signatures and timestamps of webhooks change with each delivery.
 */
export async function fingerprintOf(context: ExecutionContext, options: RouteOptions): Promise<string> {
  return options.fingerprint
    ? digest(given(await options.fingerprint(context)))
    : requestFingerprint(context);
}

/** {@link fingerprintOf} a route without a `fingerprint` option. */
export function requestFingerprint(context: ExecutionContext): string {
  const request = context.switchToHttp().getRequest<PlatformRequest>();
  const { path, query } = target(request);
  const sent = rewrittenFrom(request);
  const urls = sent === undefined ? [] : [{ sent }];
  const head = JSON.stringify([request.method, path, query, ...urls]);
  const body = spelledBody(request);
  const files = spelledFiles(request);
  // Each part says where it ends, so that none can be taken for a piece of the next.
  return digest(files === undefined ? `${head}\n${body}` : `${head}\n${body}\n${files}`);
}

function digest(compared: string | Uint8Array): string {
  return hash('sha256', compared, 'hex');
}

function given(answer: unknown): Buffer {
  if (typeof answer === 'string') return bytesOf(answer);
  throw new TypeError('The `fingerprint` option has to give a string: what must be equal in a retry');
}
