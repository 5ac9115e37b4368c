import type { DataSource } from 'typeorm';

const TABLE = 'idempotency_cache';

export interface TablePlace {
  /** As the DataSource has it; without one the connection's search_path decides. */
  readonly schema?: string;
  readonly tableName: string;
}

/** Where there are no settings of a DataSource. */
export const PLAIN_PLACE: TablePlace = { tableName: TABLE };

/**
 * Where the settings of this DataSource put the table: its `schema`, `entityPrefix` and naming strategy count as for
 * every other table. Asked of the settings, as the entity need not be registered, and the migration may run where it
 * is not.
 */
export function configuredPlace({
  options,
  namingStrategy,
}: Pick<DataSource, 'options' | 'namingStrategy'>): TablePlace {
  const { schema, entityPrefix } = options as { schema?: string; entityPrefix?: string };
  const name = namingStrategy.tableName('IdempotencyCache', TABLE);
  return { schema, tableName: entityPrefix ? namingStrategy.prefixTableName(entityPrefix, name) : name };
}

/** Quoted only where it must be, so that what a person reads and what the catalogs keep stays plain. */
export function identifier(name: string): string {
  return isPlain(name) ? name : `"${name.replaceAll('"', '""')}"`;
}

export function isPlain(name: string): boolean {
  return /^[a-z_][a-z0-9_]*$/.test(name);
}

/** How to make the table, for those who read the error. @param schema where it belongs, unless that is `public` */
export function remedy({ schema, tableName }: TablePlace): string {
  const file = 'node_modules/nestjs-idempotency/migrations/015_idempotency_cache.sql';
  const psql = schema
    ? `PGOPTIONS='-csearch_path=${identifier(schema)}' psql "$DATABASE_URL"`
    : 'psql "$DATABASE_URL"';
  const command =
    tableName === TABLE ? `${psql} < ${file}` : `sed 's/${TABLE}/${tableName}/g' ${file} | ${psql}`;
  const migration =
    'add CreateIdempotencyCache1764000000015 to the `migrations` of the DataSource and run them';
  const typable = isPlain(tableName) && (!schema || /^\w+$/.test(schema));
  return typable ? `Run \`${command}\`, or ${migration}.` : `To make it, ${migration}.`;
}

/** The table, quoted and with its schema for use in SQL, and where it is. */
export interface TableNames extends TablePlace {
  readonly table: string;
}

/** Without a schema the connection's search_path finds it. */
export function tableNames({ schema, tableName }: TablePlace): TableNames {
  const table = schema ? `${quoted(schema)}.${quoted(tableName)}` : quoted(tableName);
  return { table, schema, tableName };
}

function quoted(identifier: string): string {
  return `"${identifier.replaceAll('"', '""')}"`;
}
