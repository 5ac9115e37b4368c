import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { IdempotencyContext } from '../../core/context';
import type { IdempotencyOptions } from '../../options/idempotency.options';
import { checkRouteOptions } from '../../options/resolve';
import { demandModule, watchHandler } from '../handler/handler-interceptors';
import { watchOf } from '../handler/handler-watch';
import { IDEMPOTENT_METADATA } from '../handler/idempotent-metadata';
import { requestOf, type Handler } from '../platform';

/**
 * Makes a route safe to retry: its handler runs once per key, and every retry gets the first response.
 *
 * On a method it protects that handler; on a class it protects the handlers of POST, PUT, PATCH and DELETE, and a
 * method's own options come before the class's. It is metadata only: no `@UseInterceptors()` is needed, and it
 * works on base classes and on controllers that other modules generate. Without the module in the application, each
 * request to a decorated route fails.
 *
 * @throws InvalidOptionsError when the class is defined, naming the option, its value and what is allowed
 */
export function Idempotent(options: IdempotencyOptions = {}): MethodDecorator & ClassDecorator {
  checkRouteOptions('@Idempotent() options', options);
  return (target: object, _?: string | symbol, descriptor?: PropertyDescriptor): void => {
    const method = descriptor?.value as Handler | undefined;
    Reflect.defineMetadata(IDEMPOTENT_METADATA, options, method ?? target);
    if (method) watchHandler(method);
    else demandModule(target);
  };
}

/**
 * Handler parameter: the claim under which the handler runs ({@link IdempotencyContext}); undefined if it runs
 * unprotected because the request had no key.
 */
export const IdempotencyClaim = createParamDecorator(
  (_: unknown, context: ExecutionContext): IdempotencyContext | undefined =>
    watchOf(requestOf(context))?.context,
);
