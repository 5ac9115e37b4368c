import { Logger } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { IdempotencySetupError, StoreUnavailableError } from '../../core/errors';
import { IdempotencyCache } from './idempotency-cache.entity';
import type { PostgresConnection } from './postgres.connection';
import type { TableNames } from './statements';

/**
 * Whether this DataSource can hold the records at all.
 * @throws IdempotencySetupError naming what is wrong and how to mend it
 */
export function assertUsable(dataSource: DataSource): void {
  const { type } = dataSource.options;
  if (type !== 'postgres') {
    throw new IdempotencySetupError(
      `the DataSource is of type "${type}", which is not supported: the claims need Postgres itself. Name another ` +
        'with `postgres: { dataSource }`, or, with fewer guarantees, run on Redis alone with `postgres: false`.',
    );
  }
  if (!dataSource.isInitialized) {
    throw new IdempotencySetupError(
      'the DataSource is not initialized. Leave that to TypeOrmModule, or initialize it before the application.',
    );
  }
  if (!dataSource.hasMetadata(IdempotencyCache)) {
    throw new IdempotencySetupError(
      'the DataSource does not know the entity IdempotencyCache. Add it to its `entities: [IdempotencyCache]`, or ' +
        'set `autoLoadEntities: true`.',
    );
  }
}

/** The columns that the statements name, and their types. */
const COLUMNS: Readonly<Record<string, string>> = {
  fence: 'bigint',
  lease_until: 'timestamp with time zone',
  created_at: 'timestamp with time zone',
  expires_at: 'timestamp with time zone',
  completed_at: 'timestamp with time zone',
  attempt: 'integer',
  status: 'smallint',
  token: 'uuid',
  id: 'bytea',
  fingerprint: 'bytea',
  state: 'text',
  scope: 'text',
  key: 'text',
  tombstone: 'text',
  headers: 'json',
  body: 'bytea',
};

interface Findings {
  readonly table: boolean;
  /** Names of columns that are missing or of another type, in JSON. */
  readonly columns: string;
  readonly unique: boolean;
  readonly sequence: boolean;
  readonly cleanup: boolean;
  readonly rights: boolean;
}

/** Asks the catalogs only: nothing is locked, whatever else goes on with the table. */
const INSPECTION = `
  WITH found AS (
    SELECT oid, CASE WHEN EXISTS (SELECT FROM pg_attribute WHERE attrelid = oid AND attname = 'fence')
      THEN pg_get_serial_sequence($1, 'fence') END AS sequence
    FROM to_regclass($1) AS oid
  )
  SELECT
    oid IS NOT NULL AS "table",
    (SELECT coalesce(json_agg(expected.name), '[]') FROM json_each_text($3::json) AS expected (name, type)
      WHERE NOT EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = oid AND attname = expected.name AND NOT attisdropped
          AND format_type(atttypid, NULL) = expected.type)) AS columns,
    EXISTS (
      SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
      WHERE indrelid = oid AND indisunique AND indnkeyatts = 1 AND indpred IS NULL AND attname = 'id') AS "unique",
    sequence IS NOT NULL AS sequence,
    to_regprocedure($2) IS NOT NULL AS cleanup,
    coalesce(has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
      AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')
      AND has_sequence_privilege(sequence, 'USAGE'), false) AS rights
  FROM found`;

/**
 * Whether the table and its cleanup function are there, as the statements expect them. A Postgres that cannot be
 * reached now is no fault of the set-up: it is logged, and the application starts.
 * @returns whether Postgres could be asked
 * @throws IdempotencySetupError naming what is missing and how to mend it
 */
export async function assertMigrated(connection: PostgresConnection, names: TableNames): Promise<boolean> {
  let found: Findings | undefined;
  try {
    const run = connection.operation('check');
    [found] = await run<Findings>(INSPECTION, [
      names.table,
      `${names.cleanup}(integer)`,
      JSON.stringify(COLUMNS),
    ]);
  } catch (error) {
    if (!(error instanceof StoreUnavailableError)) throw error;
    new Logger('Idempotency').warn(`${error.message}; the table ${names.table} is not checked at this start`);
    return false;
  }
  const problem = found && problemOf(found, names);
  if (problem) throw new IdempotencySetupError(problem);
  return true;
}

const REMEDY =
  'Run `psql $DATABASE_URL < node_modules/nestjs-idempotency/migrations/015_idempotency_cache.sql`, or add CreateIdempotencyCache1764000000015 to ' +
  'the `migrations` of the DataSource and run them.';

function problemOf(found: Findings, { table, cleanup }: TableNames): string | undefined {
  if (!found.table && !found.cleanup)
    return `the table ${table} and the function ${cleanup} are missing. ${REMEDY}`;
  if (!found.table) return `the table ${table} is missing. ${REMEDY}`;
  const columns = JSON.parse(found.columns) as string[];
  if (columns.length > 0) {
    return (
      `the table ${table} is another one: its columns ${columns.join(', ')} are missing or of another type. ` +
      'Rename the table that is there, then make ours. ' +
      REMEDY
    );
  }
  if (!found.unique || !found.sequence) {
    const lack = found.unique
      ? 'the column fence has no sequence of its own'
      : 'the column id is no primary key';
    return `in the table ${table}, ${lack}. Rename the table that is there, then make ours. ${REMEDY}`;
  }
  if (!found.cleanup) return `the function ${cleanup}(integer) is missing. ${REMEDY}`;
  if (!found.rights) {
    return (
      `the DataSource's role may not use the table ${table}. GRANT SELECT, INSERT, UPDATE, DELETE on it, and USAGE on ` +
      'its sequence, as the head of migrations/015_idempotency_cache.sql says.'
    );
  }
  return undefined;
}
