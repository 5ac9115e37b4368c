import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CALLER } from '../store/postgres/schema/directory-statements';
import { identifier } from '../store/postgres/schema/table-name';
import { EXIT, type ExitCode } from './exit';
import { placeOf, type CommonOptions, type Place } from './settings';
import { connected, namesOf } from './stores';
import { terminal } from './terminal';

const MIGRATIONS = join(__dirname, '../../migrations');
const TABLE = 'idempotency_cache';

export interface MigrateCommand extends CommonOptions {
  readonly partitioned?: boolean;
  readonly indexes?: boolean;
  readonly dryRun?: boolean;
}

/** Makes the table where it is missing; may be run again without harm. */
export async function migrate(options: MigrateCommand): Promise<ExitCode> {
  // It asks Postgres alone.
  const place = placeOf({ ...options, redis: false }, process.env);
  const creating = await creation(place, options.partitioned ?? false);
  if (options.dryRun) {
    terminal.print([creating, ...(options.indexes ? indexes(place) : [])].join('\n'));
    return EXIT.done;
  }
  await connected(place, async (client) => {
    await client.query(creating);
    if (!options.indexes) return;
    const partitions = await client.query<{ name: string }>(PARTITIONS, [namesOf(place).table]);
    for (const statement of indexes(
      place,
      partitions.rows.map(({ name }) => name),
    )) {
      terminal.progress(statement);
      await client.query(statement);
    }
    terminal.progress('');
  });
  terminal.print(
    options.json ? JSON.stringify({ migrated: place.table }) : `The table ${place.table} is there.`,
  );
  return EXIT.done;
}

/** Of a partitioned table. */
const PARTITIONS = `
  SELECT relname AS name FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
  WHERE inhparent = $1::text::regclass AND relkind = 'r' ORDER BY relname`;

/** As the file has it, under another name and in another schema where these are asked for. */
async function creation({ schema, table }: Place, partitioned: boolean): Promise<string> {
  const name = `015_idempotency_cache${partitioned ? '_partitioned' : ''}.sql`;
  const file = await readFile(join(MIGRATIONS, name), 'utf8');
  const named = table === TABLE ? file : file.replaceAll(TABLE, identifier(table));
  return schema === undefined ? named : `SET search_path = ${identifier(schema)};\n${named}`;
}

/** For large tables: what `list` looks for by caller, key and route. */
const INDEXES = [
  ['caller', `(${CALLER})`],
  ['key', '(key)'],
  ['scope', '(scope text_pattern_ops)'],
] as const;

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
