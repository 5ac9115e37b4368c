import type { IdempotencyOptions } from '../../options/idempotency.options';

export const IDEMPOTENT_METADATA = 'nestjs-idempotency:options';

/** What `@Idempotent()` says on this very class; undefined if it is only on a class that it extends. */
export function ownOptionsOf(decorated: object): IdempotencyOptions | undefined {
  return Reflect.getOwnMetadata(IDEMPOTENT_METADATA, decorated) as IdempotencyOptions | undefined;
}

/** What `@Idempotent()` says of a handler or of a class; undefined if it is not there. */
export function optionsOf(decorated: object): IdempotencyOptions | undefined {
  return Reflect.getMetadata(IDEMPOTENT_METADATA, decorated) as IdempotencyOptions | undefined;
}
