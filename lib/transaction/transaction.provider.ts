import { Inject, Injectable } from '@nestjs/common';
import { IdempotencySetupError } from '../core/errors';
import type { IdempotencyRecord, RecordId } from '../core/record';
import type { BeginRequest, BeginResult, TransactionStore } from '../core/transaction';
import { MODULE_SETTINGS } from '../options/module-settings';
import type { ModuleSettings } from '../options/resolve';
import { outcomeCipherOf } from '../outcome/outcome-cipher';
import { PostgresProvider } from '../store/postgres/postgres.provider';
import { TieredStoreService } from '../store/tiered-store.service';
import { Transactions } from './transactions';

/** Begins transactions beside the tiers: Redis may answer first, and has a copy of each outcome that is committed. */
@Injectable()
export class TransactionProvider implements TransactionStore {
  private opened: Transactions | undefined;

  constructor(
    @Inject(MODULE_SETTINGS) private readonly settings: ModuleSettings,
    private readonly postgres: PostgresProvider,
    private readonly store: TieredStoreService,
  ) {}

  begin(request: BeginRequest): Promise<BeginResult> {
    return this.store.begin(request.id, async () => {
      const { identity } = this.postgres.records;
      if (!identity.tag) await identity.confirmForRequest();
      return this.transactions.begin(request);
    });
  }

  async look(id: RecordId): Promise<IdempotencyRecord | 'locked' | undefined> {
    if (await this.transactions.isLocked(id)) return 'locked';
    return this.store.find(id);
  }

  close(): void {
    this.opened?.close();
  }

  private get transactions(): Transactions {
    return (this.opened ??= this.open());
  }

  /** @throws IdempotencySetupError */
  private open(): Transactions {
    const { postgres, encryption, bounds } = this.settings;
    if (!postgres) throw new IdempotencySetupError('Postgres is disabled.');
    const { dataSource, connection, table } = this.postgres.records;
    const { retention, timeout, preparedStatements } = postgres;
    return new Transactions(dataSource, connection, {
      table,
      retention,
      timeout,
      preparedStatements,
      cipher: outcomeCipherOf(encryption),
      maxQueued: bounds.maxQueuedClaims,
      find: (id) => this.store.find(id),
      findInPostgres: (id) => this.store.findInArbiter(id),
      completed: (completion, result) => this.store.copy(completion, result),
    });
  }
}
