import { Logger } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { IdempotencySetupError, StoreUnavailableError } from '../../../core/errors';
import { CreateIdempotencyCache1764000000015 } from './migration';
import type { PostgresConnection } from '../connection/postgres.connection';
import { remedy, type TableNames } from './table-name';

/**
 * Whether this DataSource can hold the records at all.
 * @throws IdempotencySetupError naming what is wrong and how to fix it
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
  /** Whether a crash of Postgres empties the table, or one of its partitions. */
  readonly unlogged: boolean;
  readonly sequence: boolean;
  readonly rights: boolean;
  /** Commands that row level security does not allow on every row, separated by commas. */
  readonly barred: string;
  /** Quoted where it must be. */
  readonly role: string;
  /** The first schema of the search_path. */
  readonly current: string | null;
  /** Whether the schema that the DataSource names is there. */
  readonly schema: boolean;
}

/** Asks the catalogs only, so it locks nothing beside other uses of the table. */
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
    EXISTS (
      SELECT FROM pg_class WHERE relpersistence <> 'p' AND relkind IN ('r', 'p')
        AND (oid = oid_of_table OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = oid_of_table))
    ) AS unlogged,
    sequence IS NOT NULL AS sequence,
    $2::text IS NULL OR EXISTS (SELECT FROM pg_namespace WHERE nspname = $2) AS schema,
    current_schema() AS current, quote_ident(current_user) AS role,
    (SELECT coalesce(string_agg(command.name, ', '), '')
      FROM (VALUES ('r', 'SELECT'), ('a', 'INSERT'), ('w', 'UPDATE'), ('d', 'DELETE')) AS command (code, name)
      CROSS JOIN LATERAL (
        SELECT coalesce(bool_or(polpermissive AND is_open), false) AS allowed,
          coalesce(bool_or(NOT polpermissive AND NOT is_open), false) AS restricted
        FROM pg_policy CROSS JOIN LATERAL (
          SELECT coalesce(pg_get_expr(polqual, polrelid), 'true') = 'true'
            AND coalesce(pg_get_expr(polwithcheck, polrelid), 'true') = 'true' AS is_open) AS expressions
        WHERE polrelid = oid_of_table AND polcmd::text IN ('*', command.code) AND EXISTS (
          SELECT FROM unnest(polroles) AS role
          WHERE CASE WHEN role = 0 THEN true ELSE pg_has_role(role, 'USAGE') END)
      ) AS policies
      WHERE row_security_active(oid_of_table) AND (restricted OR NOT allowed)) AS barred,
    coalesce(has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
      AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')
      AND has_sequence_privilege(sequence, 'USAGE'), false) AS rights
  FROM found, LATERAL (SELECT found.oid AS oid_of_table) AS named`;

/**
 * Whether the table is there, as the statements expect it. A Postgres that cannot be reached now is not a fault of the
 * set-up: it is logged, and the application starts.
 * @param make makes the table where it is missing
 * @returns whether Postgres could be asked
 * @throws IdempotencySetupError naming what is missing and how to fix it
 */
export async function assertMigratedIfUp(
  connection: PostgresConnection,
  names: TableNames,
  make?: () => Promise<void>,
): Promise<boolean> {
  try {
    await assertMigrated(connection, names, make);
    return true;
  } catch (error) {
    if (!(error instanceof StoreUnavailableError)) throw error;
    new Logger('Idempotency').warn(`${error.message}; the table ${names.table} is not checked at this start`);
    return false;
  }
}

/**
 * As {@link assertMigratedIfUp}, for a caller that needs Postgres.
 * @throws IdempotencySetupError
 * @throws StoreUnavailableError
 */
export async function assertMigrated(
  connection: PostgresConnection,
  names: TableNames,
  make?: () => Promise<void>,
): Promise<void> {
  const inspect = async (): Promise<Findings | undefined> => {
    const run = connection.operation('check');
    const { table, schema = null } = names;
    const [found] = await run<Findings>(INSPECTION, [table, schema, JSON.stringify(COLUMNS)]);
    return found;
  };
  let found = await inspect();
  if (make && found && !found.table) {
    await make();
    found = await inspect();
  }
  const problem = found && problemOf(found, names);
  if (problem) throw new IdempotencySetupError(problem);
}

/**
 * Makes the table as the migration does, for `synchronize: true`: TypeORM itself would make it without the function,
 * and as the naming strategy has it.
 * @throws IdempotencySetupError
 */
export async function makeTable(dataSource: DataSource): Promise<void> {
  const runner = dataSource.createQueryRunner();
  try {
    await new CreateIdempotencyCache1764000000015().up(runner);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new IdempotencySetupError(
      `\`synchronize\` is on, but the table cannot be made: Postgres says "${reason}". Let a role that may create ` +
        'tables run the migration CreateIdempotencyCache1764000000015.',
      { cause },
    );
  } finally {
    await runner.release();
  }
}

function problemOf(found: Findings, { table, schema, tableName }: TableNames): string | undefined {
  const current = found.current === 'public' ? undefined : (found.current ?? undefined);
  const make = remedy({ schema: schema ?? current, tableName });
  if (!found.schema) return `the schema "${schema}" of the DataSource is missing. Create it. ${make}`;
  if (!found.table && !schema && found.current === null) {
    return (
      `the search_path of the role ${found.role} has no schema that it may use. GRANT USAGE on the schema ` +
      'of the table to it, or set its `search_path`.'
    );
  }
  if (!found.table) return `the table ${table} is missing. ${make}`;
  const columns = JSON.parse(found.columns) as string[];
  if (columns.length > 0) {
    return (
      `the table ${table} is another one: its columns ${columns.join(', ')} are missing or of another type. ` +
      `Rename the table that is there, then make ours. ${make}`
    );
  }
  if (!found.unique || !found.sequence) {
    const lack = found.unique ? 'the column fence has no sequence' : 'the column id is not a primary key';
    return `in the table ${table}, ${lack}. Rename the table that is there, then make ours. ${make}`;
  }
  if (found.unlogged) {
    return (
      `the table ${table} is unlogged, so a crash of Postgres would empty it, and handlers would run again. Run ` +
      `\`ALTER TABLE ${table} SET LOGGED\`, or the same for its partitions.`
    );
  }
  if (!found.rights) {
    return (
      `the role ${found.role} may not use the table ${table}. GRANT SELECT, INSERT, UPDATE, DELETE on it, and USAGE on ` +
      'its sequence, as the head of migrations/015_idempotency_cache.sql says.'
    );
  }
  if (found.barred) {
    return (
      `row level security on the table ${table} does not allow the role ${found.role} ${found.barred} on every row. ` +
      `Run \`CREATE POLICY idempotency ON ${table} TO ${found.role} USING (true)\` and drop restrictive policies, or ` +
      `\`ALTER TABLE ${table} DISABLE ROW LEVEL SECURITY\`.`
    );
  }
  return undefined;
}
