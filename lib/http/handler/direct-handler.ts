import { INTERCEPTORS_METADATA } from '@nestjs/common/constants';
import type { ExecutionContext } from '@nestjs/common';
import type { Handler } from '../platform';
import { copyOf } from './handler-start';

const direct = new WeakSet<Handler>();

/** Whether no interceptor stands between the module's and the handler of this request: none watches it either. */
export function isDirect(context: ExecutionContext): boolean {
  return direct.has(context.getHandler());
}

/**
 * Has Nest call a handler of this controller without its interceptors, the one that watches it included: each
 * costs every request some KiB. To be called before Nest makes its routes. Another application of the process may have
 * the same class, and interceptors around it, so only this instance gets a method for that.
 */
export function callDirectly(controller: object, name: string): void {
  if (Object.hasOwn(controller, name)) return;
  const handler = Reflect.get(controller, name) as Handler;
  const own = copyOf(handler, function (this: unknown, ...args: unknown[]): unknown {
    return Reflect.apply(handler, this, args) as unknown;
  });
  Reflect.defineMetadata(INTERCEPTORS_METADATA, [], own);
  const method = { value: own, writable: true, configurable: true };
  if (Reflect.defineProperty(controller, name, method)) direct.add(own);
}
