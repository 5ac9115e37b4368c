import type { Type } from '@nestjs/common';
import { IdempotencySetupError } from '../core/errors';
import type { IdempotencyRecord } from '../core/record';
import type { IdempotencyStore } from '../core/store';
import { MemoryData, MemoryStore } from '../store/memory/memory.store';
import { OwnStoreProvider } from '../store/own-store.provider';
import { FaultyStore, type RequestFault } from './faulty-store';
import { TestClock } from './test-clock';

/** Milliseconds: 30 days, as Postgres keeps records by default. */
const RETENTION = 2_592_000_000;

/** What a Nest application and a testing module have in common. */
export interface Injector {
  get(token: Type, options?: { strict: boolean }): unknown;
}

/** What is used of `Test.createTestingModule()`. */
export interface TestingBuilder<B> {
  overrideProvider(token: unknown): { useValue(value: unknown): B };
}

/** The records of an application under test, in memory: to look at, to empty, and to break. */
export class IdempotencyTesting {
  /** Of leases and expiry. */
  readonly clock = new TestClock();
  private readonly data = new MemoryData();
  private readonly memory: MemoryStore;
  private readonly faulty: FaultyStore;

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
    assertInTest();
    const testing = new IdempotencyTesting();
    return builder.overrideProvider(OwnStoreProvider).useValue({ open: () => testing.store, testing });
  }

  /** @throws IdempotencySetupError if the application was not made with {@link replaceIn} */
  static of(app: Injector): IdempotencyTesting {
    const { testing } = app.get(OwnStoreProvider, { strict: false }) as { testing?: IdempotencyTesting };
    if (testing) return testing;
    throw new IdempotencySetupError(
      'the application records in its own stores. Make its module with IdempotencyTesting.replaceIn().',
    );
  }

  get store(): IdempotencyStore {
    return this.faulty;
  }

  /** All records that stand, the one written last at the end. */
  records(): IdempotencyRecord[] {
    return this.memory.records();
  }

  /** Forgets all records, and ends all faults. */
  reset(): void {
    this.data.rows.clear();
    this.faulty.heal();
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

/** Each runner sets one of these. */
const RUNNERS = ['JEST_WORKER_ID', 'VITEST', 'NODE_TEST_CONTEXT'];

function assertInTest(): void {
  if (process.env.NODE_ENV === 'test' || RUNNERS.some((name) => process.env[name])) return;
  throw new IdempotencySetupError(
    "records in memory are for tests, and this is none: one process is no arbiter. Set NODE_ENV=test in a test, or ask for it by name with `store: 'memory'`.",
  );
}
