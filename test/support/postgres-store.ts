import { createHash, randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { recordId, type Claim, type Outcome } from '../../lib/core/record';
import type { OutcomeCipher } from '../../lib/outcome/outcome-cipher';
import type { ClaimRequest, ClaimResult } from '../../lib/core/store';
import { plainDigest } from '../../lib/core/digest';
import { PostgresDirectory } from '../../lib/store/postgres/directory';
import { IdempotencyCache } from '../../lib/store/postgres/schema/idempotency-cache.entity';
import { applicationPool } from '../../lib/store/postgres/connection/pool';
import { PostgresConnection } from '../../lib/store/postgres/connection/postgres.connection';
import { PostgresStore } from '../../lib/store/postgres/postgres.store';
import type { BatchBounds } from '../../lib/store/batching/batcher';
import type { RunningPostgres } from '../../servers';
import { tableNames, type TableNames } from '../../lib/store/postgres/schema/table-name';
import { sql } from './database';

export { sql };

type PostgresDataSourceOptions = Partial<Extract<DataSourceOptions, { type: 'postgres' }>>;

/** One instance of an application: its DataSource and the module's own pool and store. */
export interface Instance {
  readonly dataSource: DataSource;
  readonly connection: PostgresConnection;
  readonly names: TableNames;
  readonly store: PostgresStore;
  close(): Promise<void>;
}

export interface InstanceOptions {
  readonly timeout?: number;
  readonly poolSize?: number;
  readonly preparedStatements?: boolean;
  readonly retention?: number;
  readonly cipher?: OutcomeCipher;
  readonly batches?: BatchBounds;
  readonly dataSource?: PostgresDataSourceOptions;
}

export async function openDataSource(
  url: string,
  options: PostgresDataSourceOptions = {},
): Promise<DataSource> {
  return new DataSource({ type: 'postgres', url, entities: [IdempotencyCache], ...options }).initialize();
}

export async function openInstance(url: string, options: InstanceOptions = {}): Promise<Instance> {
  const { timeout = 5_000, poolSize = 4, preparedStatements, retention = 86_400_000 } = options;
  const dataSource = await openDataSource(url, options.dataSource);
  const names = tableNames(dataSource.getMetadata(IdempotencyCache));
  const connection = new PostgresConnection(applicationPool(dataSource), {
    timeout,
    poolSize,
    preparedStatements,
  });
  const store = new PostgresStore(connection, names, {
    retention,
    cipher: options.cipher,
    batches: options.batches,
    directory: new PostgresDirectory(connection, names.table, plainDigest),
  });
  const close = async (): Promise<void> => {
    await connection.close();
    await dataSource.destroy();
  };
  return { dataSource, connection, names, store, close };
}

/** By default the table as one; the other file makes it in partitions. */
export type MigrationFile = '015_idempotency_cache.sql' | '015_idempotency_cache_partitioned.sql';

export async function migrate(url: string, file: MigrationFile = '015_idempotency_cache.sql'): Promise<void> {
  await sql(url, await readFile(join(__dirname, '../../migrations', file), 'utf8'));
}

export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

export function claimRequest(key: string, overrides: Partial<ClaimRequest> = {}): ClaimRequest {
  return {
    id: recordId('POST /orders alice', key),
    fingerprint: sha256('request'),
    token: randomUUID(),
    lease: 30_000,
    takeOver: true,
    bypassCache: false,
    durability: 'durable',
    ...overrides,
  };
}

export function claimed(result: ClaimResult): Claim {
  if (!result.claimed) throw new Error(`Not claimed, but ${result.record.state}`);
  return result.claim;
}

export function response(text: string): Outcome {
  return {
    kind: 'response',
    status: 201,
    headers: [['Content-Type', 'text/plain']],
    body: Buffer.from(text),
  };
}

/** Makes a key's record expire now, as its retention had passed. */
export async function expire(url: string, key: string): Promise<void> {
  await sql(
    url,
    `UPDATE idempotency_cache SET expires_at = now() - interval '1 second',
       lease_until = CASE WHEN lease_until IS NOT NULL THEN now() - interval '1 second' END
     WHERE key = $1`,
    [key],
  );
}

/** Makes a key's lease lapse now, as its owner had crashed. */
export async function lapse(url: string, key: string): Promise<void> {
  await sql(url, `UPDATE idempotency_cache SET lease_until = now() - interval '1 second' WHERE key = $1`, [
    key,
  ]);
}

/** Makes a completed record an orphan of a claim before it, as where a failover has lost what was committed last. */
export async function loseOutcome(url: string, key: string): Promise<void> {
  await sql(
    url,
    `UPDATE idempotency_cache SET state = 'in_progress', fence = greatest(fence - 1, 1), token = gen_random_uuid(),
       lease_until = now() - interval '1 second', completed_at = NULL, status = NULL, headers = NULL, body = NULL
     WHERE key = $1`,
    [key],
  );
}

/** Runs `work` while no process of Postgres does anything, as on a machine that hangs. */
export async function whileFrozen<T>(
  server: RunningPostgres,
  url: string,
  work: () => Promise<T>,
): Promise<T> {
  const pids = [
    server.pid,
    ...(await sql<{ pid: number }>(url, 'SELECT pid FROM pg_stat_activity')).map((row) => row.pid),
  ];
  const signal = (name: NodeJS.Signals): void => {
    for (const pid of pids) {
      try {
        process.kill(pid, name);
      } catch {
        // has ended meanwhile
      }
    }
  };
  signal('SIGSTOP');
  try {
    return await work();
  } finally {
    signal('SIGCONT');
  }
}
