import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { IdempotencyContext } from '../../core/context';
import { IdempotencySetupError } from '../../core/errors';
import type { IdempotencyOptions } from '../../options/idempotency.options';
import { checkRouteOptions, merge } from '../../options/resolve';
import { demandModule, watchHandler } from '../handler/handler-interceptors';
import { watchOf } from '../handler/handler-watch';
import { IDEMPOTENT_METADATA, ownOptionsOf } from '../handler/idempotent-metadata';
import { requestOf, type Handler } from '../platform';

/**
 * Makes a route safe to retry: its handler runs once per key, and every retry gets the first response.
 *
 * On a method it protects that handler; on a class it protects the handlers of POST, PUT, PATCH and DELETE, and a
 * method's own options come before the class's. Where it stands twice, the options of the upper one come first. It is metadata only: no `@UseInterceptors()` is needed, and it
 * works on base classes and on controllers that other modules generate. Without the module in the application, each
 * request to a decorated route fails.
 *
 * @throws InvalidOptionsError when the class is defined, naming class, method, option, its value and what is allowed
 * @throws IdempotencySetupError on a property, a parameter or a static method, or without parentheses
 */
export function Idempotent(options: IdempotencyOptions = {}): MethodDecorator & ClassDecorator {
  assertCalled(options);
  return (target: object, name?: string | symbol, descriptor?: PropertyDescriptor): void => {
    const where = placeOf(target, name);
    checkRouteOptions(`@Idempotent() on ${where}`, options);
    const method = descriptor?.value as Handler | undefined;
    if (name !== undefined) assertHandler(where, target, name, method);
    const decorated = method ?? target;
    // A decorator of the application may bring this one already, and options that are lost are not missed.
    const below = ownOptionsOf(decorated);
    Reflect.defineMetadata(IDEMPOTENT_METADATA, below ? merge([options, below]) : options, decorated);
    if (method) watchHandler(method);
    else demandModule(target);
  };
}

/** @param target a class, or for what is within it its prototype; the class itself for what is static */
function placeOf(target: object, name: string | symbol | undefined): string {
  const type = (typeof target === 'function' ? target : target.constructor) as { readonly name: string };
  return [type.name || 'a class without a name', name]
    .filter((each) => each !== undefined)
    .map(String)
    .join('.');
}

/** Without parentheses it gets what it stands on: a class, or the prototype of one. The compiler of TypeScript tells as well. */
function assertCalled(options: object | null): void {
  if (typeof options !== 'function' && !(options && Object.hasOwn(options, 'constructor'))) return;
  throw new IdempotencySetupError('@Idempotent stands without parentheses. Write @Idempotent().');
}

/** Nest looks for its handlers among the methods of an instance that have a name. */
function assertHandler(where: string, target: object, name: string | symbol, method: unknown): void {
  if (typeof method !== 'function')
    throw new IdempotencySetupError(
      `@Idempotent() stands on ${where}, which is not a method. Put it on the method that handles the route, or on its class.`,
    );
  if (typeof target === 'function' || typeof name === 'symbol')
    throw new IdempotencySetupError(
      `@Idempotent() stands on ${where}, which Nest never calls as a route: it is static, or named by a symbol. Make it an ordinary method.`,
    );
}

/**
 * Handler parameter: the claim under which the handler runs ({@link IdempotencyContext}); undefined if it runs
 * unprotected because the request had no key.
 */
export const IdempotencyClaim = createParamDecorator(
  (_: unknown, context: ExecutionContext): IdempotencyContext | undefined =>
    watchOf(requestOf(context))?.context,
);
