import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DataSource } from 'typeorm';
import { startPostgres, type RunningPostgres } from '../../../../servers';
import { IdempotencyCache } from '../../../../lib/store/postgres/schema/idempotency-cache.entity';
import { CreateIdempotencyCache1764000000015 } from '../../../../lib/store/postgres/schema/migration';
import { migrate, openDataSource, sql } from '../../../support/postgres-store';

/** Everything that the catalogs know of the table and its function, in a form that two databases can be compared in. */
async function catalog(url: string, schema = 'public'): Promise<unknown> {
  const table = `'${schema}.idempotency_cache'::regclass`;
  const [columns, constraints, indexes, sequence, functions] = await Promise.all([
    sql(
      url,
      `SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull, attstorage, attcompression,
         pg_get_expr(adbin, adrelid) AS "default", col_description(attrelid, attnum) AS comment
       FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
       WHERE attrelid = ${table} AND attnum > 0 AND NOT attisdropped ORDER BY attname`,
    ),
    sql(
      url,
      `SELECT conname, contype, convalidated, pg_get_constraintdef(oid) AS definition
       FROM pg_constraint WHERE conrelid = ${table} ORDER BY conname`,
    ),
    sql(
      url,
      `SELECT pg_get_indexdef(indexrelid) AS definition FROM pg_index WHERE indrelid = ${table} ORDER BY 1`,
    ),
    sql(
      url,
      `SELECT pg_get_serial_sequence('${schema}.idempotency_cache', 'fence') AS name,
         obj_description(${table}) AS comment, reloptions FROM pg_class WHERE oid = ${table}`,
    ),
    sql(
      url,
      `SELECT pg_get_functiondef(oid) AS definition, obj_description(oid) AS comment
       FROM pg_proc WHERE proname = 'cleanup_idempotency_cache' AND pronamespace = '${schema}'::regnamespace`,
    ),
  ]);
  return { columns, constraints, indexes, sequence, functions };
}

/** What is left in the database of all that was made. */
async function leftovers(url: string): Promise<unknown[]> {
  return sql(
    url,
    `SELECT relname AS name FROM pg_class WHERE relname LIKE '%idempotency%'
     UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE '%idempotency%'
     UNION ALL SELECT typname FROM pg_type WHERE typname LIKE '%idempotency%'`,
  );
}

describe('The schema of the records', () => {
  let server: RunningPostgres;
  let url: string;
  const open: DataSource[] = [];

  beforeAll(async () => {
    server = await startPostgres();
  });
  afterAll(() => server.stop());
  beforeEach(async () => {
    url = await server.createDatabase();
  });
  afterEach(async () => {
    await Promise.all(open.splice(0).map((dataSource) => dataSource.destroy()));
  });

  async function dataSource(options: Parameters<typeof openDataSource>[1] = {}): Promise<DataSource> {
    const opened = await openDataSource(url, {
      migrations: [CreateIdempotencyCache1764000000015],
      ...options,
    });
    open.push(opened);
    return opened;
  }

  async function pendingChanges(source: DataSource): Promise<string[]> {
    const { upQueries } = await source.driver.createSchemaBuilder().log();
    return upQueries.map((each) => each.query);
  }

  it('is the same from the SQL file and from the TypeORM migration', async () => {
    await migrate(url);
    const byFile = await catalog(url);
    url = await server.createDatabase();
    await (await dataSource()).runMigrations();
    expect(await catalog(url)).toEqual(byFile);
  });

  it('is the same in partitions, but for these', async () => {
    await migrate(url);
    const one = await catalog(url);
    url = await server.createDatabase();
    await migrate(url, '015_idempotency_cache_partitioned.sql');
    const inPartitions = JSON.stringify(await catalog(url)).replaceAll(' ON ONLY ', ' ON ');
    expect(JSON.parse(inPartitions)).toEqual(JSON.parse(JSON.stringify(one)));
    const parts = await sql(
      url,
      `SELECT inhrelid FROM pg_inherits WHERE inhparent = 'idempotency_cache'::regclass`,
    );
    expect(parts).toHaveLength(16);
  });

  it('is made by the SQL file once, however often and by however many it is run', async () => {
    await Promise.all([migrate(url), migrate(url), migrate(url)]);
    const first = await catalog(url);
    await migrate(url);
    expect(await catalog(url)).toEqual(first);
  });

  it.each(['015_idempotency_cache.sql', '015_idempotency_cache_partitioned.sql'] as const)(
    'is made within the transaction of another tool by %s without its BEGIN and COMMIT',
    async (file) => {
      const text = await readFile(join(__dirname, '../../../../migrations', file), 'utf8');
      const within = text.replace(/^(BEGIN|COMMIT);$/gm, '');
      await sql(url, `BEGIN;\n${within}\nROLLBACK`);
      expect(await leftovers(url)).toEqual([]);
      await sql(url, `BEGIN;\n${within}\nCOMMIT`);
      const byTool = await catalog(url);
      url = await server.createDatabase();
      await migrate(url, file);
      expect(await catalog(url)).toEqual(byTool);
    },
  );

  it('leaves nothing behind when the migration is reverted, and can be made again', async () => {
    const source = await dataSource();
    await source.runMigrations();
    const first = await catalog(url);
    await source.undoLastMigration();
    expect(await leftovers(url)).toEqual([]);
    await source.runMigrations();
    expect(await catalog(url)).toEqual(first);
  });

  it('has every column of the entity, with its type, and no other', async () => {
    await migrate(url);
    const { columns } = (await dataSource()).getMetadata(IdempotencyCache);
    const table = await sql(
      url,
      `SELECT attname AS name, format_type(atttypid, atttypmod) AS type, NOT attnotnull AS nullable
       FROM pg_attribute WHERE attrelid = 'idempotency_cache'::regclass AND attnum > 0 AND NOT attisdropped`,
    );
    const driver = (await dataSource()).driver;
    const entity = columns.map((column) => ({
      name: column.databaseName,
      type: driver.normalizeType(column),
      nullable: column.isNullable,
    }));
    const byName = (one: { name?: unknown }, other: { name?: unknown }): number =>
      String(one.name).localeCompare(String(other.name));
    expect(entity.sort(byName)).toEqual(table.sort(byName));
  });

  it('is left alone by migration:generate', async () => {
    expect(await pendingChanges(await dataSource())).toEqual([]);
    await migrate(url);
    expect(await pendingChanges(await dataSource())).toEqual([]);
  });

  it('keeps its rows and its shape under synchronize', async () => {
    await migrate(url);
    const before = await catalog(url);
    await sql(
      url,
      `INSERT INTO idempotency_cache (id, token, fingerprint, state, attempt, lease_until, created_at, expires_at, scope, key)
       VALUES (sha256('a'), gen_random_uuid(), sha256('b'), 'in_progress', 1, now(), now(), now(), 'scope', 'key')`,
    );
    await dataSource({ synchronize: true });
    expect(await catalog(url)).toEqual(before);
    expect(await sql(url, 'SELECT key FROM idempotency_cache')).toEqual([{ key: 'key' }]);
  });

  it('goes into the schema that the DataSource names, which need not be in the search_path', async () => {
    await sql(url, 'CREATE SCHEMA "Billing"');
    const source = await dataSource({ schema: 'Billing' });
    await source.runMigrations();
    expect(await sql(url, `SELECT "Billing".cleanup_idempotency_cache(10) AS deleted`)).toEqual([
      { deleted: 0 },
    ]);
    await source.undoLastMigration();
    expect(await leftovers(url)).toEqual([]);
  });

  it('follows the search_path under which the SQL file is run', async () => {
    await sql(url, 'CREATE SCHEMA app');
    await migrate(`${url}?options=-c%20search_path%3Dapp`);
    expect(await sql(url, 'SELECT app.cleanup_idempotency_cache(10) AS deleted')).toEqual([{ deleted: 0 }]);
    expect(await sql(url, `SELECT to_regclass('public.idempotency_cache') AS "table"`)).toEqual([
      { table: null },
    ]);
  });

  describe('refuses a row that makes no sense', () => {
    const inProgress = {
      id: `sha256('a')`,
      token: 'gen_random_uuid()',
      fingerprint: `sha256('b')`,
      state: `'in_progress'`,
      attempt: '1',
      lease_until: `now() + interval '30 s'`,
      created_at: 'now()',
      expires_at: `now() + interval '30 days'`,
      scope: `'scope'`,
      key: `'key'`,
    };
    const completed = {
      ...inProgress,
      state: `'completed'`,
      lease_until: 'NULL',
      completed_at: 'now()',
      status: '200',
      headers: `'[]'`,
      body: `''`,
    };
    const insert = (row: Record<string, string>): Promise<unknown> =>
      sql(
        url,
        `INSERT INTO idempotency_cache (${Object.keys(row).join()}) VALUES (${Object.values(row).join()})`,
      );

    beforeEach(() => migrate(url));

    it.each<[string, Record<string, string>]>([
      ['an unknown state', { ...inProgress, state: `'released'` }],
      ['a short id', { ...inProgress, id: `'\\x00'` }],
      ['a short fingerprint', { ...inProgress, fingerprint: `'\\x00'` }],
      ['attempt 0', { ...inProgress, attempt: '0' }],
      ['fence 0', { ...inProgress, fence: '0' }],
      ['in progress without a lease', { ...inProgress, lease_until: 'NULL' }],
      ['in progress that expires before its lease', { ...inProgress, expires_at: 'now()' }],
      ['in progress with a body', { ...inProgress, body: `''` }],
      ['in progress with a status', { ...inProgress, status: '200' }],
      ['completed with a lease', { ...completed, lease_until: 'now()' }],
      ['completed without a status', { ...completed, status: 'NULL' }],
      ['completed with a status that is none', { ...completed, status: '0' }],
      ['completed without a time', { ...completed, completed_at: 'NULL' }],
      ['completed without a body', { ...completed, body: 'NULL' }],
      ['completed without headers', { ...completed, headers: 'NULL' }],
      ['headers that are no list', { ...completed, headers: `'{}'` }],
      ['headers that are no JSON', { ...completed, headers: `'['` }],
      ['a tombstone with a body', { ...completed, tombstone: `'too_large'` }],
      ['an unknown tombstone', { ...completed, tombstone: `'lost'`, headers: 'NULL', body: 'NULL' }],
    ])('%s', async (_, row) => {
      await expect(insert(row)).rejects.toThrow(
        /violates check constraint|invalid input syntax for type json/,
      );
    });

    it('but takes each that does', async () => {
      await insert(inProgress);
      await insert({ ...completed, id: `sha256('c')` });
      await insert({
        ...completed,
        id: `sha256('d')`,
        tombstone: `'unstorable'`,
        headers: 'NULL',
        body: 'NULL',
      });
    });
  });
});
