import { randomUUID } from 'node:crypto';
import { isOrphaned, type IdempotencyRecord, type RecordId } from '../core/record';
import type { BeginRequest, BeginResult, TransactionStore } from '../core/transaction';
import type { MemoryStore } from '../store/memory/memory.store';
import type { PostgresProvider } from '../store/postgres/postgres.provider';
import type { TieredStoreService } from '../store/tiered-store.service';
import type { FaultyStore } from './faulty-store';
import { TestTransaction } from './test-transaction';

/** Where the transactions of an application under test are. */
export interface TransactionsPlace {
  readonly memory: MemoryStore;
  /** The same, with what goes wrong in front of it. */
  readonly faulty: FaultyStore;
  readonly store: TieredStoreService;
  readonly postgres: Pick<PostgresProvider, 'defaultDataSource'>;
}

/**
 * The transaction mode on records in memory: a key is locked from its begin to its end, and its outcome is recorded at the
 * end. What handlers write does not join, so it is not rolled back.
 */
export class TestTransactions implements TransactionStore {
  /** Hashes of keys. */
  private readonly locked = new Set<string>();

  constructor(private readonly place: TransactionsPlace) {}

  /** Nothing is refused: a test may run the whole application in one transaction. */
  watch(): void {
    return;
  }

  /** At start: nothing is needed. */
  open(): Promise<void> {
    return Promise.resolve();
  }

  begin(request: BeginRequest): Promise<BeginResult> {
    return this.place.store.begin(request.id, () => this.lockAndClaim(request));
  }

  async look(id: RecordId): Promise<IdempotencyRecord | 'locked' | undefined> {
    return this.locked.has(id.hash) ? 'locked' : this.place.store.find(id);
  }

  outside<T>(work: () => T): T {
    return work();
  }

  private async lockAndClaim(request: BeginRequest): Promise<BeginResult> {
    const { hash } = request.id;
    if (this.locked.has(hash)) return { kind: 'locked' };
    this.locked.add(hash);
    let result: BeginResult | undefined;
    try {
      result = await this.claim(request);
      return result;
    } finally {
      if (result?.kind !== 'begun') this.locked.delete(hash);
    }
  }

  private async claim(request: BeginRequest): Promise<BeginResult> {
    const { id, fingerprint, policy, claim } = request;
    const { faulty } = this.place;
    if (claim) return { kind: 'begun', transaction: this.transaction(request, claim) };
    if (!(await faulty.find(id))) faulty.crashBeforeClaim();
    const result = await faulty.claim({
      id,
      fingerprint,
      token: randomUUID(),
      lease: policy.timeout,
      takeOver: false,
      bypassCache: true,
      durability: 'durable',
    });
    if (result.claimed) return { kind: 'begun', transaction: this.transaction(request, result.claim) };
    const { record } = result;
    return isOrphaned(record) && record.fingerprint === fingerprint
      ? { kind: 'lapsed' }
      : { kind: 'standing', record };
  }

  private transaction({ id, policy }: BeginRequest, claim: TestTransaction['claim']): TestTransaction {
    const { memory, faulty, postgres } = this.place;
    return new TestTransaction(claim, policy.timeout, {
      complete: (outcome) => faulty.complete(claim, outcome),
      release: () => memory.release(claim),
      manager: () => postgres.defaultDataSource?.manager,
      ended: () => this.locked.delete(id.hash),
    });
  }
}
