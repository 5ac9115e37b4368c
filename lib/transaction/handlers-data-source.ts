import type { DataSource } from 'typeorm';
import { IdempotencySetupError, StoreUnavailableError } from '../core/errors';
import { applicationPool } from '../store/postgres/connection/pool';
import type { RecordsPlace } from '../store/postgres/postgres.provider';
import { bounded } from './bounded';

/** What is missing in pg-native: notices that a commit was not confirmed, cancelling, and a socket that can be cut off. */
function assertOwnClient(dataSource: DataSource): void {
  const { Client } = applicationPool(dataSource);
  const { connection } = new Client({}) as { connection?: { stream?: unknown } }; // it is not connected
  if (connection?.stream) return;
  throw new IdempotencySetupError(
    'option "transaction" needs the JavaScript client of pg. The DataSource uses another one: TypeORM takes pg-native ' +
      'wherever it is installed. Uninstall pg-native, or set `driver: { ...pg }` in the DataSource.',
  );
}

/** Tells a table from any other, in this server or another one. */
const PLACE = `
  SELECT pg_postmaster_start_time()::text AS server, to_regclass($1)::oid::text AS "table",
    (SELECT oid::text FROM pg_database WHERE datname = current_database()) AS database`;

/**
 * The DataSource in whose transactions handlers run: the application's default one, which injected repositories use. It
 * may be another pool than that of the records, but has to reach the same table.
 * @param timeout milliseconds for a statement
 * @throws IdempotencySetupError if it does not, or uses pg-native; StoreUnavailableError
 */
export async function handlersDataSource(
  byDefault: DataSource | undefined,
  { dataSource, table }: RecordsPlace,
  timeout: number,
): Promise<DataSource> {
  if (!byDefault || byDefault === dataSource) {
    assertOwnClient(dataSource);
    return dataSource;
  }
  const isPostgres = byDefault.options.type === 'postgres' && byDefault.isInitialized;
  const placeIn = (each: DataSource): Promise<string> => placeOf(each, table, timeout);
  if (isPostgres) {
    assertOwnClient(byDefault);
    if ((await placeIn(byDefault)) === (await placeIn(dataSource))) return byDefault;
  }
  throw new IdempotencySetupError(
    'option "transaction" commits records together with what handlers write, but `postgres.dataSource` names another ' +
      "database than that of the default DataSource. Keep the records in the handlers' database, and make its DataSource the default one.",
  );
}

async function placeOf(dataSource: DataSource, table: string, timeout: number): Promise<string> {
  try {
    const asked = dataSource.query<unknown>(PLACE, [table]); // over the application's pool, which has no time-out
    return JSON.stringify(await bounded(asked, 'the statement', timeout));
  } catch (error) {
    throw new StoreUnavailableError('postgres', 'check', error, false);
  }
}
