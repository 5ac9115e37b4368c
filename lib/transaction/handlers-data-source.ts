import type { DataSource } from 'typeorm';
import { IdempotencySetupError, StoreUnavailableError } from '../core/errors';
import type { RecordsPlace } from '../store/postgres/postgres.provider';

/** Tells a table from any other, in this server or another one. */
const PLACE = `
  SELECT pg_postmaster_start_time()::text AS server, to_regclass($1)::oid::text AS "table",
    (SELECT oid::text FROM pg_database WHERE datname = current_database()) AS database`;

/**
 * The DataSource in whose transactions handlers run: the application's default one, which injected repositories use. It
 * may be another pool than that of the records, but has to reach the same table.
 * @throws IdempotencySetupError if it does not; StoreUnavailableError
 */
export async function handlersDataSource(
  byDefault: DataSource | undefined,
  { dataSource, table }: RecordsPlace,
): Promise<DataSource> {
  if (!byDefault || byDefault === dataSource) return dataSource;
  const isPostgres = byDefault.options.type === 'postgres' && byDefault.isInitialized;
  if (isPostgres && (await placeOf(byDefault, table)) === (await placeOf(dataSource, table)))
    return byDefault;
  throw new IdempotencySetupError(
    'option "transaction" commits records together with what handlers write, but `postgres.dataSource` names another ' +
      "database than that of the default DataSource. Keep the records in the handlers' database, and make its DataSource the default one.",
  );
}

async function placeOf(dataSource: DataSource, table: string): Promise<string> {
  try {
    return JSON.stringify(await dataSource.query(PLACE, [table]));
  } catch (error) {
    throw new StoreUnavailableError('postgres', 'check', error, false);
  }
}
