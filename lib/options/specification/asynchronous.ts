import type { InjectionToken, Type } from '@nestjs/common';
import { z } from 'zod';
import type { IdempotencyModuleOptions } from '../idempotency.options';
import { callback } from '../schemas';

/** Makes the module's options, for `useClass` and `useExisting`. */
export interface IdempotencyOptionsFactory {
  createIdempotencyOptions(): IdempotencyModuleOptions | Promise<IdempotencyModuleOptions>;
}

const isClass = (value: unknown): boolean => typeof value === 'function' && value.prototype !== undefined;
const isToken = (value: unknown): boolean => ['string', 'symbol'].includes(typeof value) || isClass(value);

/** What every module takes whose options come from a factory. */
export const asyncShape = {
  imports: z.array(z.unknown(), { error: 'a list of modules' }).optional(),
  inject: z.array(z.custom<InjectionToken>(), { error: 'a list of providers' }).optional(),
};

export const asyncSchema = z.strictObject({
  ...asyncShape,
  useFactory: callback<(...dependencies: never[]) => unknown>().optional(),
  useClass: z.custom<Type<IdempotencyOptionsFactory>>(isClass, { error: 'a class' }).optional(),
  useExisting: z
    .custom<InjectionToken<IdempotencyOptionsFactory>>(isToken, {
      error: 'a class that one of `imports` exports',
    })
    .optional(),
});
