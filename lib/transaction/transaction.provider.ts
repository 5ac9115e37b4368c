import { Inject, Injectable } from '@nestjs/common';
import { IdempotencySetupError } from '../core/errors';
import type { IdempotencyRecord, RecordId } from '../core/record';
import type { BeginRequest, BeginResult, TransactionStore } from '../core/transaction';
import { MODULE_SETTINGS } from '../options/module-settings';
import type { ModuleSettings } from '../options/resolve';
import { outcomeCipherOf } from '../outcome/outcome-cipher';
import { PostgresProvider } from '../store/postgres/postgres.provider';
import { TieredStoreService } from '../store/tiered-store.service';
import { outside } from './frames';
import { handlersDataSource } from './handlers-data-source';
import { Hook } from './hook';
import { Transactions } from './transactions';

/** Begins transactions beside the tiers: Redis may answer first, and has a copy of each outcome that is committed. */
@Injectable()
export class TransactionProvider implements TransactionStore {
  private transactions: Transactions | undefined;
  private opening: Promise<Transactions> | undefined;

  constructor(
    @Inject(MODULE_SETTINGS) private readonly settings: ModuleSettings,
    private readonly postgres: PostgresProvider,
    private readonly store: TieredStoreService,
  ) {}

  /** From now on it is seen which transactions the application starts itself. */
  watch(): void {
    for (const dataSource of this.postgres.dataSources) Hook.on(dataSource);
  }

  /**
   * At start, where there are routes in this mode. Postgres need not answer yet.
   * @throws IdempotencySetupError if handlers write to another database than that of the records
   */
  async open(): Promise<void> {
    await this.opened().catch((error: unknown) => {
      if (error instanceof IdempotencySetupError) throw error;
    });
  }

  begin(request: BeginRequest): Promise<BeginResult> {
    return this.store.begin(request.id, () => {
      const { tag } = this.postgres.records.identity;
      return tag && this.transactions ? this.transactions.begin(request) : this.openAndBegin(request);
    });
  }

  private async openAndBegin(request: BeginRequest): Promise<BeginResult> {
    const { identity } = this.postgres.records;
    if (!identity.tag) await identity.confirmForRequest();
    return (await this.opened()).begin(request);
  }

  async look(id: RecordId): Promise<IdempotencyRecord | 'locked' | undefined> {
    const copy = await this.store.findCopy(id); // also where Postgres has no connection left for the question
    if (copy) return copy;
    const transactions = await this.opened();
    return (await transactions.isLocked(id)) ? 'locked' : this.store.find(id);
  }

  outside<T>(work: () => T): T {
    return outside(work);
  }

  private opened(): Promise<Transactions> {
    return (this.opening ??= this.make().catch((error: unknown) => {
      this.opening = undefined;
      throw error;
    }));
  }

  private async make(): Promise<Transactions> {
    const { postgres, encryption, bounds } = this.settings;
    if (!postgres) throw new IdempotencySetupError('option "transaction" needs Postgres, which is disabled.');
    const { records, defaultDataSource } = this.postgres;
    const { retention, timeout, preparedStatements } = postgres;
    const dataSource = await handlersDataSource(defaultDataSource, records, timeout);
    this.transactions = new Transactions(dataSource, records.connection, {
      table: records.table,
      retention,
      timeout,
      preparedStatements,
      cipher: outcomeCipherOf(encryption),
      maxQueued: bounds.maxQueuedClaims,
      find: (id) => this.store.find(id),
      findInPostgres: (id) => this.store.findInArbiter(id),
      completed: (completion, result, askedAt) => this.store.copy(completion, result, askedAt),
    });
    return this.transactions;
  }
}
