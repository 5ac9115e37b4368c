import type { Client } from 'pg';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { IdempotencySetupError, StoreUnavailableError } from '../core/errors';
import { failureOf, sqlState, type Failure } from '../store/postgres/connection/failures';
import { CALLER } from '../store/postgres/schema/directory-statements';
import { identifier, isPlain } from '../store/postgres/schema/table-name';
import { EXIT, UsageError, type ExitCode } from './exit';
import { placeOf, type CommonOptions, type Place } from './settings';
import { connected, namesOf } from './stores';
import { terminal } from './terminal';

const MIGRATIONS = join(__dirname, '../../migrations');
const TABLE = 'idempotency_cache';
/** With the longest of what is put around it. */
const MOST_OF_NAME = 63 - '_in_progress_check'.length;

export interface MigrateCommand extends CommonOptions {
  readonly partitioned?: boolean;
  readonly indexes?: boolean;
  readonly dryRun?: boolean;
}

/** Makes the table where it is missing; may be run again without harm. */
export async function migrate(options: MigrateCommand): Promise<ExitCode> {
  // It asks Postgres alone.
  const place = placeOf({ ...options, redis: false }, process.env);
  assertMakeable(place.table);
  const { partitioned = false, indexes: indexed = false } = options;
  const creating = await creation(place, partitioned);
  if (options.dryRun) {
    const partitions = partitioned ? newPartitions(place) : [];
    terminal.print([creating, ...(indexed ? indexes(place, partitions) : [])].join('\n'));
    return EXIT.done;
  }
  await connected(place, async (client) => {
    try {
      await client.query(creating);
      if (indexed) await index(place, client);
    } catch (error) {
      throw migrationError(error, place);
    } finally {
      terminal.progress('');
    }
  });
  if (options.json) terminal.printJson({ migrated: place.table });
  else terminal.print(`The table ${place.table} is there.`);
  return EXIT.done;
}

/** The file has the name within other names, and Postgres cuts those that are longer than 63 bytes. */
function assertMakeable(table: string): void {
  if (isPlain(table) && table.length <= MOST_OF_NAME) return;
  throw new UsageError(
    `migrate makes tables whose names have a-z, 0-9 and _ alone, ${MOST_OF_NAME} characters at most. For another name, ` +
      'use the migration CreateIdempotencyCache1764000000015 of the package with TypeORM.',
  );
}

/** One after another: what is built concurrently cannot be part of a transaction. */
async function index(place: Place, client: Client): Promise<void> {
  const { table } = namesOf(place);
  const left = await client.query<{ name: string }>(UNFINISHED, [table, INDEX_NAME]);
  const partitions = await client.query<{ name: string }>(PARTITIONS, [table]);
  const statements = [
    ...left.rows.map(({ name }) => `DROP INDEX CONCURRENTLY IF EXISTS ${name};`),
    ...indexes(
      place,
      partitions.rows.map(({ name }) => name),
    ),
  ];
  for (const statement of statements) {
    terminal.progress(statement);
    await client.query(statement);
  }
}

/** What keeps the role, or the schema, from having the table. Other errors stay as they are. */
function migrationError(cause: unknown, { schema }: Place): unknown {
  if (sqlState(cause) === '3F000' && schema === undefined)
    return new IdempotencySetupError(
      'the search_path names no schema that is there and that this role may use. Name one with --schema.',
      { cause },
    );
  if (sqlState(cause) === '3F000')
    return new IdempotencySetupError(
      `the schema ${JSON.stringify(schema)} is missing, or this role may not use it. Run CREATE SCHEMA, or GRANT ` +
        'USAGE, CREATE ON SCHEMA.',
      { cause },
    );
  if (cause instanceof Error && sqlState(cause) === '42501')
    return new IdempotencySetupError(
      `Postgres says "${cause.message}". Run the command as the owner of the schema and the table, or GRANT USAGE, ` +
        'CREATE ON SCHEMA to this role.',
      { cause },
    );
  if (cause instanceof Error && sqlState(cause)?.startsWith('42'))
    return new IdempotencySetupError(
      `Postgres says "${cause.message}". What has the name of the table, or of its indexes, is of another form. Rename ` +
        'it, or pass another --table; pass --partitioned for a partitioned table alone.',
      { cause },
    );
  return DOWN.has(failureOf(cause)) ? new StoreUnavailableError('postgres', 'migrate', cause, true) : cause;
}

const DOWN: ReadonlySet<Failure> = new Set(['connection', 'transient', 'unavailable']);

/** Of a partitioned table. */
const PARTITIONS = `
  SELECT relname AS name FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
  WHERE inhparent = $1::text::regclass AND relkind = 'r' ORDER BY relname`;

/**
 * Indexes of the table or its partitions that an interrupted command has left. They would be taken for finished, and one
 * that belongs to an index of a partitioned table cannot be made valid any more.
 */
const UNFINISHED = `
  SELECT indexrelid::regclass::text AS name
  FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
  WHERE indrelid IN (
      SELECT $1::text::regclass UNION SELECT relid FROM pg_partition_tree($1::text::regclass)
    ) AND NOT indisvalid AND relkind = 'i' AND NOT relispartition AND relname ~ $2`;

/** As the file has it, under another name and in another schema where these are asked for. */
async function creation({ schema, table }: Place, partitioned: boolean): Promise<string> {
  const name = `015_idempotency_cache${partitioned ? '_partitioned' : ''}.sql`;
  const file = await readFile(join(MIGRATIONS, name), 'utf8');
  const named = table === TABLE ? file : file.replaceAll(TABLE, table);
  if (schema === undefined) return named;
  // Of the transaction alone: behind a pooler, another client has the session next.
  return named.replace(/^BEGIN;$/m, (begin) => `${begin}\n\nSET LOCAL search_path = ${identifier(schema)};`);
}

/** As the file makes them. */
function newPartitions({ table }: Place): string[] {
  return Array.from({ length: 16 }, (_, part) => `${table}_${part}`);
}

/** For large tables: what `list` looks for by caller, key and route. */
const INDEXES = [
  ['caller', `(${CALLER})`],
  ['key', '(key)'],
  ['scope', '(scope text_pattern_ops)'],
] as const;

/** A regular expression for the names of these, on any table. */
const INDEX_NAME = `_(?:${INDEXES.map(([suffix]) => suffix).join('|')})_idx$`;

/** Without CONCURRENTLY, claims would wait. A partitioned table cannot be indexed so as a whole, but each partition can. */
export function indexes(
  { schema, table }: Pick<Place, 'schema' | 'table'>,
  partitions: readonly string[] = [],
): string[] {
  const inSchema = (name: string): string =>
    schema === undefined ? identifier(name) : `${identifier(schema)}.${identifier(name)}`;
  const make = (name: string, on: string, columns: string): string =>
    `CREATE INDEX CONCURRENTLY IF NOT EXISTS ${identifier(name)} ON ${inSchema(on)} ${columns};`;
  return INDEXES.flatMap(([suffix, columns]) => {
    const name = `${table}_${suffix}_idx`;
    if (partitions.length === 0) return [make(name, table, columns)];
    return [
      `CREATE INDEX IF NOT EXISTS ${identifier(name)} ON ONLY ${inSchema(table)} ${columns};`,
      ...partitions.flatMap((each) => [
        make(`${each}_${suffix}_idx`, each, columns),
        `ALTER INDEX ${inSchema(name)} ATTACH PARTITION ${inSchema(`${each}_${suffix}_idx`)};`,
      ]),
    ];
  });
}
