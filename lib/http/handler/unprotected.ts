import type { ExecutionContext } from '@nestjs/common';
import { IdempotencySetupError } from '../../core/errors';
import { optionsOf } from './idempotent-metadata';
import { routeName, type PlatformRequest } from '../platform';

/** Repeating these is safe by definition (RFC 9110, 9.2.1), so a decorated class leaves them alone. */
export const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE']);

const passed = new WeakSet<object>();

/** The module has seen this request, and lets it run unprotected. */
export function letPass(request: object): void {
  passed.add(request);
}

/**
 * For a request that the module does not protect: either it has let it pass, or it has never seen it.
 * @throws IdempotencySetupError if the request is to a decorated route, and no module of its application has seen it
 */
export function assertSeen(context: ExecutionContext, request: object): void {
  if (context.getType() !== 'http' || passed.has(request)) return;
  const { method } = request as PlatformRequest;
  if (!optionsOf(context.getHandler()) && (SAFE_METHODS.has(method) || !optionsOf(context.getClass())))
    return;
  throw new IdempotencySetupError(
    `${routeName(context)} has @Idempotent(), but this application has no IdempotencyModule before its routes, ` +
      'so it would run unprotected. Import IdempotencyModule.forRoot() in the root module; it cannot be loaded lazily. In a test, import ' +
      'IdempotencyTestingModule.forRoot() of nestjs-idempotency/testing.',
  );
}
