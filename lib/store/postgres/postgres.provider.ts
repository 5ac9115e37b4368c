import { Inject, Injectable } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { performance } from 'node:perf_hooks';
import type { DataSource } from 'typeorm';
import { Digest } from '../../core/digest';
import { IdempotencySetupError, unlessUnavailable } from '../../core/errors';
import type { Metrics } from '../../core/ports';
import { outcomeCipherOf } from '../../outcome/outcome-cipher';
import { IdempotencyMetrics } from '../../observability/metrics';
import { RequestObservers } from '../../observability/observers';
import { Tracing } from '../../observability/tracing';
import { MODULE_SETTINGS } from '../../options/module-settings';
import type { ModuleSettings } from '../../options/resolve';
import { ExpiredRecordCleanup } from './cleanup';
import { PostgresDirectory } from './directory';
import { OrphanWatch } from './orphans';
import { PostgresConnection } from './connection/postgres.connection';
import { applicationDataSource, postgresSource } from './postgres-source';
import { PostgresStore } from './postgres.store';
import { assertMigratedIfUp, makeTable } from './schema/setup';
import { tableNames } from './schema/table-name';
import { TableIdentity } from './schema/table-identity';

/** Where the records are, and how they are reached. */
export interface RecordsPlace {
  readonly dataSource: DataSource;
  readonly connection: PostgresConnection;
  readonly identity: TableIdentity;
  /** As the DataSource's settings name it. */
  readonly table: string;
}

/** Opens the Postgres store where the application's DataSource or pool points, and cleans up expired records. */
@Injectable()
export class PostgresProvider {
  /** Whether Postgres could not be asked when it was opened. */
  silentAtStart = false;
  private dataSource: DataSource | undefined;
  private table: string | undefined;
  private connection: PostgresConnection | undefined;
  private cleanup: ExpiredRecordCleanup | undefined;
  private orphans: OrphanWatch | undefined;
  private identity: TableIdentity | undefined;

  constructor(
    @Inject(MODULE_SETTINGS) private readonly settings: ModuleSettings,
    private readonly moduleRef: ModuleRef,
    @Inject(IdempotencyMetrics) private readonly metrics: Metrics,
    private readonly digest: Digest,
    private readonly observers: RequestObservers,
    @Inject(Tracing) private readonly tracing: Tracing | undefined,
  ) {}

  /** Which table the records are in; undefined as long as it was not reached. */
  get tableTag(): string | undefined {
    return this.identity?.tag;
  }

  /**
   * Undefined if Postgres is disabled.
   * @throws IdempotencySetupError if the application has no such DataSource, it lacks the table, or the records there
   * are made with another secret
   */
  async open(): Promise<PostgresStore | undefined> {
    const { postgres, encryption, bounds } = this.settings;
    if (!postgres) {
      this.metrics.tierDisabled('postgres');
      return undefined;
    }
    const { retention, cleanupInterval, cleanupBatchSize } = postgres;
    const { pool, place, dataSource } = postgresSource(postgres, this.moduleRef);
    const names = tableNames(place);
    this.dataSource = dataSource;
    this.table = names.table;
    this.connection = new PostgresConnection(pool, postgres);
    this.identity = new TableIdentity(this.connection, names.table, this.digest);
    const make = dataSource?.options.synchronize ? () => makeTable(dataSource) : undefined;
    this.silentAtStart = !(await assertMigratedIfUp(this.connection, names, make));
    if (!this.silentAtStart)
      await this.identity.confirm().catch((error: unknown) => {
        unlessUnavailable(error);
        this.silentAtStart = true;
      });
    this.orphans = new OrphanWatch(this.connection, names, this.digest, {
      orphansSeen: (report) => this.metrics.orphansSeen(report),
      orphansSought: (at) => this.metrics.orphansSought(at),
      orphaned: (orphan) => this.observers.orphaned(orphan),
    });
    this.orphans.start();
    if (cleanupInterval !== false) {
      const options = { interval: cleanupInterval, batchSize: cleanupBatchSize };
      const onPassEnd = (at: number): void => this.metrics.cleanedUp(at);
      this.cleanup = new ExpiredRecordCleanup(this.connection, names, options, onPassEnd);
      onPassEnd(performance.now());
      this.cleanup.start();
    }
    return new PostgresStore(this.connection, names, {
      retention,
      cipher: outcomeCipherOf(encryption),
      identity: this.identity,
      maxQueuedClaims: bounds.maxQueuedClaims,
      tracing: this.tracing,
      directory: new PostgresDirectory(this.connection, names.table, this.digest),
    });
  }

  /**
   * What the transaction mode needs of the records' place.
   * @throws IdempotencySetupError before it is opened, or where it is reached by a pool
   */
  get records(): RecordsPlace {
    const { connection, table, dataSource, identity, settings } = this;
    if (settings.postgres && settings.postgres.pool)
      throw new IdempotencySetupError(
        'option "transaction" needs a DataSource of TypeORM, and `postgres.pool` is not one.',
      );
    if (!connection || !table || !dataSource || !identity)
      throw new IdempotencySetupError('Postgres is not opened yet. Call app.init() or app.listen() first.');
    return { connection, table, dataSource, identity };
  }

  /** Those that are known: that of the records and the default one; none where the records are reached by a pool. */
  get dataSources(): readonly DataSource[] {
    const { dataSource } = this;
    return dataSource ? [dataSource, this.defaultDataSource ?? dataSource] : [];
  }

  /** The application's default DataSource; undefined if it has none. */
  get defaultDataSource(): DataSource | undefined {
    try {
      return applicationDataSource(undefined, this.moduleRef);
    } catch {
      return undefined;
    }
  }

  /** Ends the cleanup and closes our own pool; the application's stays as it is. */
  async close(): Promise<void> {
    this.orphans?.stop();
    await this.cleanup?.stop();
    await this.connection?.close();
  }
}
