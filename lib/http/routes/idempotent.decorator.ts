import { createParamDecorator, SetMetadata, type ExecutionContext } from '@nestjs/common';
import type { IdempotencyContext } from '../../core/context';
import type { IdempotencyOptions } from '../../options/idempotency.options';
import { checkRouteOptions } from '../../options/resolve';
import { contextOf } from '../platform';

const IDEMPOTENT_METADATA = 'nestjs-idempotency:options';

/**
 * Makes a route safe to retry: its handler runs once per key, and every retry gets the first response.
 *
 * On a method it protects that handler; on a class it protects the handlers of POST, PUT, PATCH and DELETE, and a
 * method's own options come before the class's. It is metadata only: no `@UseInterceptors()` is needed, and it
 * works on base classes and on controllers that other modules generate.
 *
 * @throws InvalidOptionsError when the class is defined, naming the option, its value and what is allowed
 */
export function Idempotent(options: IdempotencyOptions = {}): MethodDecorator & ClassDecorator {
  checkRouteOptions('@Idempotent() options', options);
  return SetMetadata(IDEMPOTENT_METADATA, options);
}

/**
 * Handler parameter: the claim under which the handler runs ({@link IdempotencyContext}); undefined if it runs
 * unprotected because the request had no key.
 */
export const IdempotencyClaim = createParamDecorator(
  (_: unknown, context: ExecutionContext): IdempotencyContext | undefined =>
    contextOf(context.switchToHttp().getRequest<object>()),
);

/** What `@Idempotent()` says on this very class; undefined if it is only on a class that it extends. */
export function ownOptionsOf(decorated: object): IdempotencyOptions | undefined {
  return Reflect.getOwnMetadata(IDEMPOTENT_METADATA, decorated) as IdempotencyOptions | undefined;
}

/** What `@Idempotent()` says of a handler or of a class; undefined if it is not there. */
export function optionsOf(decorated: object): IdempotencyOptions | undefined {
  return Reflect.getMetadata(IDEMPOTENT_METADATA, decorated) as IdempotencyOptions | undefined;
}
