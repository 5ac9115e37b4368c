import { Client } from 'pg';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { IdempotencyCache } from '../../lib/store/postgres/schema/idempotency-cache.entity';
import { CreateIdempotencyCache1764000000015 } from '../../lib/store/postgres/schema/migration';

/** A connected DataSource on a migrated database. */
export async function migrated(url: string, more: Partial<DataSourceOptions> = {}): Promise<DataSource> {
  const dataSource = new DataSource({
    type: 'postgres',
    url,
    entities: [IdempotencyCache],
    migrations: [CreateIdempotencyCache1764000000015],
    ...more,
  } as DataSourceOptions);
  await dataSource.initialize();
  await dataSource.runMigrations();
  return dataSource;
}

/** Runs one statement on a connection of its own, as the server may have been restarted since the last one. */
export async function sql<Row = Record<string, unknown>>(
  url: string,
  text: string,
  values?: unknown[],
): Promise<Row[]> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 5_000, query_timeout: 30_000 });
  client.on('error', () => undefined); // the rejected call says it
  try {
    await client.connect();
    return (await client.query(text, values)).rows as Row[];
  } finally {
    await client.end().catch(() => undefined);
  }
}
