import { ROUTE_ARGS_METADATA } from '@nestjs/common/constants';
import { RouteParamtypes } from '@nestjs/common/enums/route-paramtypes.enum';
import type { Type } from '@nestjs/common';
import type { Handler } from '../platform';
import { isUnwatched, watchOf, type Starts } from './handler-watch';

interface Parameter {
  readonly index: number;
  readonly [OURS]?: true;
}

const OURS = Symbol('nestjs-idempotency:started');
const REQUEST = `${RouteParamtypes.REQUEST}:`;

const observed = new WeakMap<Handler, Starts>();
const replacements = new WeakMap<Handler, Handler>();

/** Undefined for a handler of which it is not seen when it begins. */
export function startsOf(handler: Handler): Starts | undefined {
  return observed.get(handler);
}

/**
 * Makes it seen when a handler itself begins: Nest runs its pipes and the handler as one. Its method is replaced by one
 * that gets the request as one more argument, as `@Req()` would, and calls the method as it was called before.
 * @returns the handler that Nest will call; the same one if it has no parameters, and so no pipes, or cannot be replaced
 */
export function observeStart({ prototype }: Type, handler: Handler): Handler {
  const owner = ownerOf(prototype as object, handler);
  // Classes that inherit it share it.
  if (!owner) return replacements.get(handler) ?? handler;
  if (observed.has(handler)) return handler;
  const { name, place, type } = owner;
  const parameters = Object.entries(
    (Reflect.getMetadata(ROUTE_ARGS_METADATA, type, name) ?? {}) as Record<string, Parameter>,
  ).filter(([, parameter]) => !parameter[OURS]);
  if (parameters.length === 0) return handler;
  const index = Math.max(...parameters.map(([, parameter]) => parameter.index)) + 1;
  const starts: Starts = { unknown: 0 };
  const replacement = copyOf(handler, starting(handler, index, starts));
  if (!Reflect.defineProperty(place, name, { ...owner.descriptor, value: replacement })) return handler;
  const ours: [string, Parameter & Record<string, unknown>] = [
    `${REQUEST}${index}`,
    { index, data: undefined, pipes: [], [OURS]: true },
  ];
  Reflect.defineMetadata(ROUTE_ARGS_METADATA, Object.fromEntries([...parameters, ours]), type, name);
  observed.set(replacement, starts);
  replacements.set(handler, replacement);
  return replacement;
}

function starting(handler: Handler, index: number, starts: Starts): Handler {
  return function (this: unknown, ...args: unknown[]): unknown {
    const request = args.length === index + 1 ? args[index] : undefined;
    const watch = typeof request === 'object' && request !== null ? watchOf(request) : undefined;
    if (watch || isUnwatched(request)) args.length = index;
    else starts.unknown += 1;
    watch?.start();
    return Reflect.apply(handler, this, args) as unknown;
  };
}

/** Where a method is declared, if its class is an ordinary one: Nest finds the parameters of others elsewhere. */
function ownerOf(
  prototype: object,
  handler: Handler,
): { place: object; name: string; type: object; descriptor: PropertyDescriptor } | undefined {
  for (let place: object | null = prototype; place; place = Object.getPrototypeOf(place) as object | null) {
    for (const [name, descriptor] of Object.entries(Object.getOwnPropertyDescriptors(place))) {
      if (descriptor.value !== handler || name === 'constructor') continue;
      const type: unknown = place.constructor;
      const ordinary = typeof type === 'function' && type.prototype === place;
      return ordinary ? { place, name, type, descriptor } : undefined;
    }
  }
  return undefined;
}

/**
 * Gives the replacement of a handler what decorators and others have put on it.
 * @returns the replacement
 */
export function copyOf(handler: Handler, replacement: Handler): Handler {
  Object.setPrototypeOf(replacement, Object.getPrototypeOf(handler) as object);
  for (const [name, descriptor] of Object.entries(Object.getOwnPropertyDescriptors(handler)))
    if (name !== 'prototype') Object.defineProperty(replacement, name, descriptor);
  for (const key of Reflect.getOwnMetadataKeys(handler))
    Reflect.defineMetadata(key, Reflect.getOwnMetadata(key, handler), replacement);
  const starts = observed.get(handler);
  if (starts) observed.set(replacement, starts);
  return replacement;
}
