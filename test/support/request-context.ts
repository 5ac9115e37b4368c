import type { ExecutionContext } from '@nestjs/common';
import { isIdempotencyError } from '../../lib/core/errors';
import type { IdempotencyOptions } from '../../lib/options/idempotency.options';
import { resolveRouteOptions, type RouteOptions } from '../../lib/options/resolve';

/** What Nest gives an interceptor for a request. */
export const contextOf = (request: object): ExecutionContext =>
  ({
    getArgByIndex: () => request,
    getClass: () => Object,
    getHandler: () => contextOf,
  }) as unknown as ExecutionContext;

export const route = (options: IdempotencyOptions = {}): RouteOptions =>
  resolveRouteOptions('a route under test', options);

/** The value, or what it failed with. */
export const settled = <T>(
  work: Promise<T>,
): Promise<{ value: T } | { code: string } | { message: string }> =>
  work.then(
    (value) => ({ value }),
    (error: unknown) =>
      isIdempotencyError(error)
        ? { code: error.code }
        : { message: error instanceof Error ? error.message : String(error) },
  );
