export { storeContract } from './contract/store-contract';
export type {
  ContractFactory,
  ContractRunner,
  ContractSetup,
  ContractSubject,
  Matchers,
} from './contract/runner';
