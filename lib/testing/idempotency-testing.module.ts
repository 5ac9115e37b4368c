import type { DynamicModule } from '@nestjs/common';
import { IdempotencyModule } from '../idempotency.module';
import { IdempotencySetupError } from '../core/errors';
import type { IdempotencyModuleOptions } from '../options/idempotency.options';
import { refuseImport, refuseUncalled } from '../options/refused-imports';
import { testingProviders } from './idempotency-testing';

/** `IdempotencyModule` for a test that composes its own modules, with records in memory in place of Redis and Postgres. */
export class IdempotencyTestingModule {
  /**
   * Takes the same options and checks them alike. Those of the stores (`redis`, `postgres`, `store`, `encryption`) have no
   * effect. {@link IdempotencyTesting.of} gives the records.
   * @throws InvalidOptionsError; IdempotencySetupError outside of tests
   */
  static forRoot(options: IdempotencyModuleOptions = {}): DynamicModule {
    const { providers = [], ...module } = IdempotencyModule.forRoot(options);
    return { ...module, providers: [...providers, ...testingProviders()] };
  }
}

refuseImport(
  IdempotencyTestingModule,
  () =>
    new IdempotencySetupError(
      'the class IdempotencyTestingModule itself was imported. Import IdempotencyTestingModule.forRoot().',
    ),
);
refuseUncalled(IdempotencyTestingModule, 'forRoot');
