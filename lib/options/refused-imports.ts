import { Inject, Module, type Type } from '@nestjs/common';
import { IdempotencySetupError } from '../core/errors';

const REFUSAL = Symbol('nestjs-idempotency:refusal');

/** Has startup fail with this error where Nest finds it among the imports of a module. */
export function refuseImport(imported: object, error: () => IdempotencySetupError): void {
  const refuse = (): never => {
    throw error();
  };
  Module({ providers: [{ provide: REFUSAL, useFactory: refuse }] })(imported as Type);
  // Nest makes the parameters of what it takes for a class first, and a method cannot be made.
  Inject(REFUSAL)(imported, undefined, 0);
}

/** Has startup fail where a static method that makes a module stands among imports without its call. */
export function refuseUncalled(type: Type, ...methods: readonly string[]): void {
  for (const method of methods)
    refuseImport(
      Reflect.get(type, method) as object,
      () =>
        new IdempotencySetupError(
          `${type.name}.${method} stands among imports without parentheses. Call it: ${type.name}.${method}().`,
        ),
    );
}
