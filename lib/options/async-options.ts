import type { FactoryProvider, InjectionToken, ModuleMetadata, Provider, Type } from '@nestjs/common';
import { IdempotencySetupError } from '../core/errors';
import type { IdempotencyModuleOptions } from './idempotency.options';
import { moduleSchema } from './resolve';
import { factoryProvider, made } from './factory-provider';
import { asyncSchema, type IdempotencyOptionsFactory } from './specification/asynchronous';
import { InvalidOptionsError, validate } from './validate';

/** Takes one of `useFactory`, `useClass` and `useExisting`. */
export interface IdempotencyModuleAsyncOptions extends Pick<ModuleMetadata, 'imports'> {
  /**
   * Providers that `useFactory` gets as its arguments.
   * @default []
   */
  inject?: FactoryProvider['inject'];
  useFactory?: (...dependencies: never[]) => IdempotencyModuleOptions | Promise<IdempotencyModuleOptions>;
  useClass?: Type<IdempotencyOptionsFactory>;
  useExisting?: Type<IdempotencyOptionsFactory>;
}

const WHERE = 'IdempotencyModule.forRootAsync';

const OF_FACTORY = { schema: moduleSchema, place: 'what the factory gives' };

/**
 * The providers by which Nest makes the module's options.
 * @param provide their token
 * @throws InvalidOptionsError
 */
export function asyncOptionProviders(provide: symbol, given: unknown): Provider[] {
  const { useFactory, useClass, useExisting, inject } = validate(asyncSchema, given, WHERE, OF_FACTORY);
  const chosen = Object.entries({ useFactory, useClass, useExisting }).filter(
    ([, value]) => value !== undefined,
  );
  const [source, another] = chosen.map(([name]) => name);
  if (source === undefined)
    throw new InvalidOptionsError(WHERE, ['one of useFactory, useClass and useExisting is needed']);
  if (another !== undefined)
    throw new InvalidOptionsError(WHERE, [
      `${source} and ${another} exclude each other: remove one of the two`,
    ]);
  if (useFactory) return [factoryProvider(WHERE, provide, { useFactory, inject })];
  const token = (useClass ?? useExisting) as InjectionToken;
  const provider: Provider = {
    provide,
    useFactory: (maker: unknown) =>
      made(`${nameOf(token)} of ${WHERE}()`, () => optionsFrom(maker, source, token)),
    inject: [token],
  };
  return useClass ? [provider, useClass] : [provider];
}

function optionsFrom(
  maker: unknown,
  source: string,
  token: InjectionToken,
): IdempotencyModuleOptions | Promise<IdempotencyModuleOptions> {
  const { createIdempotencyOptions } = (maker ?? {}) as Partial<IdempotencyOptionsFactory>;
  if (typeof createIdempotencyOptions !== 'function')
    throw new IdempotencySetupError(
      `${nameOf(token)} has no method createIdempotencyOptions(), which \`${source}\` of forRootAsync() needs. Have it implement IdempotencyOptionsFactory.`,
    );
  return (maker as IdempotencyOptionsFactory).createIdempotencyOptions();
}

function nameOf(token: InjectionToken): string {
  return typeof token === 'function' ? token.name : String(token);
}
