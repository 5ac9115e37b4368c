import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { IdempotencyCache } from '../../lib';
import { ExpiredRecordCleanup } from '../../lib/store/postgres/cleanup';
import { PostgresConnection } from '../../lib/store/postgres/postgres.connection';
import { startPostgres, type RunningPostgres } from '../../servers';
import { migrated } from '../support/database';
import { eventually } from '../support/eventually';

const SQL = readFileSync(join(__dirname, '../../migrations/015_idempotency_cache.sql'), 'utf8');

describe('the migration', () => {
  let postgres: RunningPostgres;
  let open: DataSource[] = [];
  beforeAll(async () => {
    postgres = await startPostgres();
  });
  afterAll(() => postgres.stop());
  afterEach(async () => {
    await Promise.all(open.map((each) => each.destroy()));
    open = [];
  });

  const fresh = async (more: object): Promise<DataSource> => {
    const dataSource = await migrated(await postgres.createDatabase(), more);
    open.push(dataSource);
    return dataSource;
  };
  const byFile = async (): Promise<DataSource> => {
    const dataSource = await fresh({ migrations: [] });
    await dataSource.query(SQL);
    return dataSource;
  };

  it('of the SQL file may run twice', async () => {
    const dataSource = await byFile();
    const before = await schemaOf(dataSource);
    await dataSource.query(SQL);
    expect(await schemaOf(dataSource)).toEqual(before);
  });

  it('of TypeORM makes the same schema as the SQL file', async () => {
    const schema = await schemaOf(await byFile());
    expect(Object.keys(schema)).toEqual(['columns', 'constraints', 'indexes', 'functions', 'comments']);
    expect(schema.columns).toHaveLength(16);
    expect(schema.indexes).toHaveLength(2);
    expect(await schemaOf(await fresh({}))).toEqual(schema);
  });

  it('of TypeORM can be reverted and run again', async () => {
    const dataSource = await fresh({});
    const schema = await schemaOf(dataSource);
    await dataSource.undoLastMigration();
    expect(await schemaOf(dataSource)).toEqual({
      columns: [],
      constraints: [],
      indexes: [],
      functions: [],
      comments: [],
    });
    await dataSource.runMigrations();
    expect(await schemaOf(dataSource)).toEqual(schema);
  });

  it('and the entity are in step: neither synchronize nor migration:generate finds a difference', async () => {
    const { upQueries } = await (await fresh({})).driver.createSchemaBuilder().log();
    expect(upQueries.map(({ query }) => query)).toEqual([]);
  });

  it('lets only rows in that say one thing', async () => {
    const dataSource = await fresh({});
    const insert = (row: Partial<IdempotencyCache>): Promise<unknown> =>
      dataSource.getRepository(IdempotencyCache).insert({
        id: Buffer.from(randomUUID()),
        token: randomUUID(),
        fingerprint: Buffer.from('f'),
        scope: 's',
        key: 'k',
        leaseUntil: new Date(),
        expiresAt: new Date(),
        state: 'in_progress',
        ...row,
      });
    const done = { state: 'completed' as const, status: 200, completedAt: new Date() };
    await insert({});
    await insert({ ...done, headers: '[]', body: Buffer.alloc(0) });
    await insert({ ...done, tombstone: 'too_large' });
    await expect(insert({ state: 'done' as 'completed' })).rejects.toThrow(/state_check/);
    await expect(insert({ status: 200 })).rejects.toThrow(/outcome_check/);
    await expect(insert(done)).rejects.toThrow(/outcome_check/);
    await expect(insert({ ...done, tombstone: 'too_large', body: Buffer.alloc(0) })).rejects.toThrow(
      /outcome_check/,
    );
  });

  describe('cleanup_idempotency_cache', () => {
    const fill = (dataSource: DataSource, count: number, set: string): Promise<unknown> =>
      dataSource.query(
        `INSERT INTO idempotency_cache (id, token, fingerprint, scope, key, state, lease_until, expires_at)
         SELECT decode(md5(random()::text), 'hex'), gen_random_uuid(), '', '', '', 'in_progress', ${set} FROM generate_series(1, ${count})`,
      );
    const rows = async (dataSource: DataSource): Promise<number> =>
      dataSource.getRepository(IdempotencyCache).count();
    const clean = async (dataSource: DataSource, batch: number): Promise<number> => {
      const [row] = await dataSource.query<{ n: number }[]>(
        `SELECT cleanup_idempotency_cache(${batch}) AS n`,
      );
      return row!.n;
    };

    it('deletes expired rows in batches and returns their count, but none with a live lease', async () => {
      const dataSource = await fresh({});
      await fill(dataSource, 25, `now() - interval '1 s', now() - interval '1 s'`);
      await fill(dataSource, 3, `now() + interval '1 h', now() - interval '1 s'`);
      await fill(dataSource, 4, `now() - interval '1 s', now() + interval '1 h'`);
      expect([await clean(dataSource, 10), await clean(dataSource, 10), await clean(dataSource, 10)]).toEqual(
        [10, 10, 5],
      );
      expect(await rows(dataSource)).toBe(7);
    });

    it('does not wait for a row that another transaction holds', async () => {
      const dataSource = await fresh({});
      await fill(dataSource, 2, `now() - interval '1 s', now() - interval '1 s'`);
      const runner = dataSource.createQueryRunner();
      await runner.startTransaction();
      await runner.query('SELECT 1 FROM idempotency_cache LIMIT 1 FOR UPDATE');
      expect(await clean(dataSource, 10)).toBe(1);
      await runner.rollbackTransaction();
      await runner.release();
    });

    it('runs by itself, and on one instance at a time', async () => {
      const dataSource = await fresh({});
      const connection = new PostgresConnection(dataSource, { timeout: 5_000, poolSize: 2 });
      const { metadata } = dataSource.getRepository(IdempotencyCache);
      const cleaner = (interval: number) =>
        new ExpiredRecordCleanup(connection, metadata, { interval, batchSize: 10 });
      await fill(dataSource, 25, `now() - interval '1 s', now() - interval '1 s'`);

      const runner = dataSource.createQueryRunner();
      await runner.startTransaction();
      await runner.query(`SELECT pg_advisory_xact_lock(hashtext('"idempotency_cache" cleanup'))`);
      expect(await cleaner(1_000).runOnce()).toBe(0);
      await runner.rollbackTransaction();
      await runner.release();

      const running = cleaner(100);
      running.start();
      await eventually(async () => expect(await rows(dataSource)).toBe(0));
      await running.stop();
      await connection.close();
    });
  });
});

/** The schema as Postgres' own catalogue describes it. */
async function schemaOf(dataSource: DataSource): Promise<Record<string, unknown[]>> {
  const table = `(SELECT oid FROM pg_class WHERE relname = 'idempotency_cache')`;
  return {
    columns: await dataSource.query(
      `SELECT attnum, attname, format_type(atttypid, atttypmod) AS type, attnotnull, pg_get_expr(adbin, adrelid) AS value
       FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
       WHERE attrelid = ${table} AND attnum > 0 ORDER BY attnum`,
    ),
    constraints: await dataSource.query(
      `SELECT conname, pg_get_constraintdef(oid) AS definition FROM pg_constraint WHERE conrelid = ${table} ORDER BY conname`,
    ),
    indexes: await dataSource.query(
      `SELECT pg_get_indexdef(indexrelid) AS definition FROM pg_index WHERE indrelid = ${table} ORDER BY 1`,
    ),
    functions: await dataSource.query(
      `SELECT pg_get_functiondef(oid) AS definition, obj_description(oid, 'pg_proc') AS comment
       FROM pg_proc WHERE proname = 'cleanup_idempotency_cache'`,
    ),
    comments: await dataSource.query(
      `SELECT objsubid, description FROM pg_description WHERE objoid = ${table} ORDER BY objsubid`,
    ),
  };
}
