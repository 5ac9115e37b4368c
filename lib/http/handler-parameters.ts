import type { ExecutionContext } from '@nestjs/common';
import { CUSTOM_ROUTE_ARGS_METADATA, ROUTE_ARGS_METADATA } from '@nestjs/common/constants';
import { RouteParamtypes } from '@nestjs/common/enums/route-paramtypes.enum';

/** By kind and place, such as `1:0` for a `@Res()` that comes first. */
type Parameters = Readonly<Record<string, { readonly data?: { readonly passthrough?: boolean } }>>;

function parametersOf(context: ExecutionContext): Parameters {
  const name = context.getHandler().name;
  return (Reflect.getMetadata(ROUTE_ARGS_METADATA, context.getClass(), name) ?? {}) as Parameters;
}

/** Whether the handler of this request may write its response by itself, so that Nest leaves it alone. */
export function answersItself(context: ExecutionContext): boolean {
  return Object.entries(parametersOf(context)).some(
    ([kind, { data }]) => isOf(kind, RouteParamtypes.RESPONSE, RouteParamtypes.NEXT) && !data?.passthrough,
  );
}

const givesResponse = new WeakMap<object, boolean>();

/** Whether the handler can get hold of the response: by `@Res()`, by `@Req()`, which leads to it, or by an own decorator. */
export function getsResponse(context: ExecutionContext): boolean {
  const handler = context.getHandler();
  let gets = givesResponse.get(handler);
  if (gets === undefined) {
    const { REQUEST, RESPONSE, NEXT } = RouteParamtypes;
    gets = Object.keys(parametersOf(context)).some(
      (kind) => isOf(kind, REQUEST, RESPONSE, NEXT) || kind.includes(CUSTOM_ROUTE_ARGS_METADATA),
    );
    givesResponse.set(handler, gets);
  }
  return gets;
}

function isOf(kind: string, ...types: readonly RouteParamtypes[]): boolean {
  return types.some((type) => kind.startsWith(`${type}:`));
}
