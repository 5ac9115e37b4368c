export { storeContract } from './contract/store-contract';
export type {
  ContractFactory,
  ContractRunner,
  ContractSetup,
  ContractSubject,
  Matchers,
} from './contract/runner';
export { IdempotencyTesting, type Injector, type TestingBuilder } from './idempotency-testing';
export type { RequestFault } from './faulty-store';
export type { TestClock } from './test-clock';
