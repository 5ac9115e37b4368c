import type { ExecutionContext } from '@nestjs/common';
import { ROUTE_ARGS_METADATA } from '@nestjs/common/constants';
import { RouteParamtypes } from '@nestjs/common/enums/route-paramtypes.enum';

/** By kind and place, such as `1:0` for a `@Res()` that comes first. */
type Parameters = Readonly<Record<string, { readonly data?: { readonly passthrough?: boolean } }>>;

function parametersOf(context: ExecutionContext): Parameters {
  const name = context.getHandler().name;
  return (Reflect.getMetadata(ROUTE_ARGS_METADATA, context.getClass(), name) ?? {}) as Parameters;
}

/** Whether the handler of this request may write its response directly, so that Nest leaves it alone. */
export function answersItself(context: ExecutionContext): boolean {
  return Object.entries(parametersOf(context)).some(
    ([kind, { data }]) => isOf(kind, RouteParamtypes.RESPONSE, RouteParamtypes.NEXT) && !data?.passthrough,
  );
}

function isOf(kind: string, ...types: readonly RouteParamtypes[]): boolean {
  return types.some((type) => kind.startsWith(`${type}:`));
}
