import { DataSource, type DataSourceOptions } from 'typeorm';
import { IdempotencyCache } from '../../lib/store/postgres/idempotency-cache.entity';
import { CreateIdempotencyCache1764000000015 } from '../../lib/store/postgres/migration';

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
