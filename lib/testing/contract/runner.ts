import type { IdempotencyStore } from '../../core/store';

/** What the suite uses of `expect`. */
export interface Matchers {
  toBe(value: unknown): unknown;
  toEqual(value: unknown): unknown;
  toMatchObject(value: object): unknown;
  toBeUndefined(): unknown;
  toHaveLength(length: number): unknown;
  toBeGreaterThan(value: number): unknown;
  toBeLessThanOrEqual(value: number): unknown;
}

/** What the suite uses of a test runner: that of Jest or Vitest, for example. */
export interface ContractRunner {
  readonly describe: (name: string, define: () => void) => unknown;
  readonly it: (name: string, test: () => Promise<void>) => unknown;
  readonly expect: (value: unknown) => Matchers;
  /** With these two, all tests share their stores. Without, each has its own, and closes them. */
  readonly beforeAll?: (prepare: () => Promise<void>) => unknown;
  readonly afterAll?: (cleanUp: () => Promise<void>) => unknown;
}

/** What a test of the contract runs on. */
export interface ContractSubject {
  readonly store: IdempotencyStore;
  /** A second instance over the same data, as another process has. */
  readonly another: IdempotencyStore;
  close(): Promise<void>;
}

export interface ContractSetup {
  /** Milliseconds for which a record answers: the store's retention. A store may take at least 1,000. */
  readonly retention: number;
}

export type ContractFactory = (setup: ContractSetup) => Promise<ContractSubject>;
