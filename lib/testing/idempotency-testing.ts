import type { FactoryProvider, Type, ValueProvider } from '@nestjs/common';
import { IdempotencySetupError } from '../core/errors';
import type { Claim, IdempotencyRecord } from '../core/record';
import type { TransactionStore } from '../core/transaction';
import { MemoryData, MemoryStore } from '../store/memory/memory.store';
import { OwnStoreProvider } from '../store/own-store.provider';
import { PostgresProvider } from '../store/postgres/postgres.provider';
import { TieredStoreService } from '../store/tiered-store.service';
import { TransactionProvider } from '../transaction/transaction.provider';
import { FaultyStore, type RequestFault } from './faulty-store';
import { TestClock } from './test-clock';
import { TestTransactions } from './test-transactions';

/** Milliseconds: 30 days, as Postgres keeps records by default. */
const RETENTION = 2_592_000_000;

/** What a Nest application and a testing module have in common. */
export interface Injector {
  get(token: Type, options?: { strict: boolean }): unknown;
}

/**
 * A provider of the module.
 * @throws IdempotencySetupError if the application does not import it
 */
export function partOf<T>(app: Injector, token: Type<T>): T {
  try {
    return app.get(token, { strict: false }) as T;
  } catch (cause) {
    if (cause instanceof TypeError) throw cause; // it is not an application
    throw new IdempotencySetupError(
      'the application under test does not import it. Import IdempotencyModule.forRoot() in its root module, or ' +
        'IdempotencyTestingModule.forRoot() in the test.',
      { cause },
    );
  }
}

/** What is used of `Test.createTestingModule()`. */
export interface TestingBuilder<B> {
  overrideProvider(token: unknown): {
    useValue(value: unknown): B;
    useFactory(factory: { factory: (...dependencies: never[]) => unknown; inject: unknown[] }): B;
  };
}

/** The records of an application under test, in memory: to look at, to empty, and to break. */
export class IdempotencyTesting {
  /** Of leases and expiry. */
  readonly clock = new TestClock();
  private readonly data = new MemoryData();
  private readonly memory: MemoryStore;
  private readonly faulty: FaultyStore;
  private lastTurn: Promise<unknown> = Promise.resolve();

  /** @internal */
  constructor() {
    const now = (): number => this.clock.now();
    this.memory = new MemoryStore({ data: this.data, now, retention: RETENTION });
    this.faulty = new FaultyStore(this.memory);
  }

  /**
   * Replaces Redis and Postgres in a test, whether the application imports `forRoot()` or `forRootAsync()`:
   * `IdempotencyTesting.replaceIn(Test.createTestingModule({ imports: [AppModule] }))`.
   * @throws IdempotencySetupError outside of tests
   */
  static replaceIn<B extends TestingBuilder<B>>(builder: B): B {
    const [store, transactions] = testingProviders();
    return builder
      .overrideProvider(store.provide)
      .useValue(store.useValue)
      .overrideProvider(transactions.provide)
      .useFactory({ factory: transactions.useFactory, inject: transactions.inject });
  }

  /** @throws IdempotencySetupError if the application was made neither with {@link replaceIn} nor with `IdempotencyTestingModule` */
  static of(app: Injector): IdempotencyTesting {
    const provider: object = partOf(app, OwnStoreProvider);
    const { testing } = provider as { testing?: IdempotencyTesting };
    if (testing) return testing;
    throw new IdempotencySetupError(
      'the application records in its own stores. Make its module with IdempotencyTesting.replaceIn().',
    );
  }

  /** @internal */
  get store(): FaultyStore {
    return this.faulty;
  }

  /** @internal */
  transactionsOf(store: TieredStoreService, postgres: PostgresProvider): TransactionStore {
    return new TestTransactions({ memory: this.memory, faulty: this.faulty, store, postgres });
  }

  /** All records that stand, the one written last at the end. */
  records(): IdempotencyRecord[] {
    return this.memory.records();
  }

  /** The claims under which handlers have run since the last {@link reset}, one for each run, in their order. */
  claims(): readonly Claim[] {
    return [...this.faulty.won];
  }

  /** Forgets all records and claims, and ends all faults. */
  reset(): void {
    this.data.rows.clear();
    this.faulty.won.length = 0;
    this.faulty.heal();
  }

  /** Runs one such work after the other, as each of them clears the records. @internal */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.lastTurn.then(work);
    this.lastTurn = turn.catch(() => undefined);
    return turn;
  }

  /** Runs work that finds no records, and puts back those that stood. Ends all faults. @internal */
  async withoutRecords<T>(work: () => Promise<T>): Promise<T> {
    const { rows } = this.data;
    const stood = [...rows];
    rows.clear();
    try {
      return await work();
    } finally {
      rows.clear();
      for (const [hash, row] of stood) rows.set(hash, row);
      this.faulty.heal();
    }
  }

  /** Has this happen to the next request that claims a key. */
  next(fault: RequestFault): void {
    this.faulty.setNext(fault);
  }

  /** Takes the store down: new keys get 503, or run unprotected by `onOutage`. Until {@link heal}. */
  storeDown(): void {
    this.faulty.setDown(true);
  }

  /** Ends all faults. */
  heal(): void {
    this.faulty.heal();
  }
}

/** @internal */
export type TestingProviders = readonly [
  store: ValueProvider,
  transactions: FactoryProvider<TransactionStore> & { inject: Type[] },
];

/**
 * What stands for the application's stores in a test.
 * @throws IdempotencySetupError outside of tests
 * @internal
 */
export function testingProviders(): TestingProviders {
  assertInTest();
  const testing = new IdempotencyTesting();
  return [
    { provide: OwnStoreProvider, useValue: { open: () => testing.store, testing } },
    {
      provide: TransactionProvider,
      inject: [TieredStoreService, PostgresProvider],
      useFactory: (store: TieredStoreService, postgres: PostgresProvider) =>
        testing.transactionsOf(store, postgres),
    },
  ];
}

/** Each runner sets one of these. */
const RUNNERS = ['JEST_WORKER_ID', 'VITEST', 'NODE_TEST_CONTEXT'];

function assertInTest(): void {
  if (process.env.NODE_ENV === 'test' || RUNNERS.some((name) => process.env[name])) return;
  throw new IdempotencySetupError(
    "records in memory are for tests, and this is not a test: one process is not an arbiter. Set NODE_ENV=test in a test, or ask for it by name with `store: 'memory'`.",
  );
}
