export { storeContract } from './contract/store-contract';
export type {
  ContractFactory,
  ContractRunner,
  ContractSetup,
  ContractSubject,
  Matchers,
} from './contract/runner';
export { IdempotencyTesting, type Injector, type TestingBuilder } from './idempotency-testing';
export { IdempotencyTestingModule } from './idempotency-testing.module';
export { expectOnce, type ExpectOnceOptions } from './once/expect-once';
export type { Scenario } from './once/scenarios';
export type { OnceAnswer, OnceRequest } from './once/http-client';
export { expectProtected, type ProtectedRouteEntry } from './expect-protected';
export type { RequestFault } from './faulty-store';
export type { TestClock } from './test-clock';
