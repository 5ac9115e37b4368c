import type { ExecutionContext } from '@nestjs/common';
import { bytesOf, plainDigest, type Digest } from '../../../core/digest';
import type { RouteOptions } from '../../../options/resolve';
import { requestOf } from '../../platform';
import { typeName, runOption } from '../option-function';
import { rewrittenFrom, target, type Target } from '../target';
import { spelledBody } from './request-body';
import { spelledFiles } from './uploaded-files';

/**
 * The digest of what must be equal in a retry: the `fingerprint` option's answer, or method, path, query and body.
 * Headers stay out: signatures and timestamps of webhooks change with each delivery.
 */
export async function fingerprintOf(
  context: ExecutionContext,
  options: RouteOptions,
  digest: Digest = plainDigest,
): Promise<string> {
  const { fingerprint } = options;
  if (!fingerprint) return requestFingerprint(context, digest);
  const ask = async (): Promise<Buffer> => given(await fingerprint(context));
  return digest.fingerprintOf(await runOption('fingerprint', context, ask));
}

/**
 * {@link fingerprintOf} a route without a `fingerprint` option.
 * @param routed what was routed, if it is known already
 */
export function requestFingerprint(
  context: ExecutionContext,
  digest: Digest = plainDigest,
  routed?: Target,
): string {
  const request = requestOf(context);
  const { path, query } = routed ?? target(request);
  const sent = rewrittenFrom(request);
  const urls = sent === undefined ? [] : [{ sent }];
  const head = JSON.stringify([request.method, path, query, ...urls]);
  const body = spelledBody(request);
  const files = spelledFiles(request);
  // Each part says where it ends, so that none can be taken for a piece of the next.
  return digest.fingerprintOf(files === undefined ? `${head}\n${body}` : `${head}\n${body}\n${files}`);
}

function given(answer: unknown): Buffer {
  if (typeof answer === 'string') return bytesOf(answer);
  throw new TypeError(
    `The \`fingerprint\` option must return a string (what must be equal in a retry), not ${typeName(answer)}`,
  );
}
