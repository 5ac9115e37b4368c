import type { ExecutionContext } from '@nestjs/common';
import { IdempotencySetupError } from '../../core/errors';
import { optionsOf } from './idempotent-metadata';
import { isHttpRequest, routeName, type PlatformRequest } from '../platform';

/** Repeating these is safe by definition (RFC 9110, 9.2.1), so a decorated class leaves them alone. */
export const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE']);

const passed = new WeakSet<object>();

/** The module has seen this request, and lets it run unprotected. */
export function letPass(request: object): void {
  passed.add(request);
}

/**
 * For a call that the module does not protect: either it has let the request pass, or it has never seen it.
 * @throws IdempotencySetupError if the call is to a decorated handler, and it is not an HTTP request, or no module of its
 * application has seen it
 */
export function assertSeen(context: ExecutionContext, request: object | undefined): void {
  const isHttp = isHttpRequest(context);
  if (isHttp && request && passed.has(request)) return;
  const isDecorated =
    optionsOf(context.getHandler()) ??
    (isHttp && SAFE_METHODS.has((request as PlatformRequest).method)
      ? undefined
      : optionsOf(context.getClass()));
  if (!isDecorated) return;
  if (!isHttp)
    throw new IdempotencySetupError(
      `${routeName(context)} has @Idempotent(), which protects HTTP requests alone, and this call (of type ` +
        `'${context.getType()}') is not one. Protect its work with IdempotencyService.execute().`,
    );
  throw new IdempotencySetupError(
    `${routeName(context)} has @Idempotent(), but this application has no IdempotencyModule before its routes, ` +
      'so it would run unprotected. Import IdempotencyModule.forRoot() in the root module; it cannot be loaded lazily, ' +
      'nor come from another installed copy of this package than the decorator. In a test, import ' +
      'IdempotencyTestingModule.forRoot() of nestjs-idempotency/testing.',
  );
}
