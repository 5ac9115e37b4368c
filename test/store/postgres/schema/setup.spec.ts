import { Logger } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { IdempotencySetupError, StoreUnavailableError } from '../../../../lib/core/errors';
import { IdempotencyCache } from '../../../../lib/store/postgres/schema/idempotency-cache.entity';
import { applicationPool } from '../../../../lib/store/postgres/connection/pool';
import { PostgresConnection } from '../../../../lib/store/postgres/connection/postgres.connection';
import {
  assertMigrated,
  assertMigratedIfUp,
  assertUsable,
} from '../../../../lib/store/postgres/schema/setup';
import { tableNames } from '../../../../lib/store/postgres/schema/table-name';
import { startPostgres } from '../../../../servers';
import { migrate, openDataSource, sql, type InstanceOptions } from '../../../support/postgres-store';
import { freshDatabases } from '../../../support/fresh-databases';

describe('The check of the set-up', () => {
  const databases = freshDatabases({ migrated: false });
  let url: string;
  beforeEach(() => ({ url } = databases));

  async function check(options: InstanceOptions = {}): Promise<void> {
    const opened = await databases.open(options);
    assertUsable(opened.dataSource);
    await assertMigrated(opened.connection, opened.names);
  }

  async function refusal(options: InstanceOptions = {}): Promise<string> {
    const error: unknown = await check(options).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(IdempotencySetupError);
    return (error as IdempotencySetupError).message;
  }

  it('finds nothing wrong after the migration', async () => {
    await migrate(url);
    await check();
  });

  it('finds nothing wrong in the schema of the DataSource', async () => {
    await sql(url, 'CREATE SCHEMA "Billing"');
    await migrate(`${url}?options=-c%20search_path%3D%22Billing%22`);
    await check({ dataSource: { schema: 'Billing' } });
    expect(await refusal()).toContain('"idempotency_cache"');
  });

  it('names the table and the way to make it', async () => {
    const message = await refusal();
    expect(message).toContain('"idempotency_cache"');
    expect(message).toContain('migrations/015_idempotency_cache.sql');
    expect(message).toContain('CreateIdempotencyCache1764000000015');
  });

  it('needs no cleanup function, which is for schedulers alone', async () => {
    await migrate(url);
    await sql(url, 'DROP FUNCTION cleanup_idempotency_cache(integer)');
    await check();
  });

  it('names the columns, where another table has the name', async () => {
    await sql(url, 'CREATE TABLE idempotency_cache (id bytea PRIMARY KEY, fence bigserial, body text)');
    const message = await refusal();
    expect(message).toContain('token');
    expect(message).toContain('body');
    expect(message).not.toContain('fence,');
  });

  it('misses the primary key, without which no claim could be refused', async () => {
    await migrate(url);
    await sql(url, 'ALTER TABLE idempotency_cache DROP CONSTRAINT idempotency_cache_pkey');
    expect(await refusal()).toContain('primary key');
  });

  it('misses the sequence of the fence', async () => {
    await migrate(url);
    await sql(url, 'ALTER TABLE idempotency_cache ALTER fence DROP DEFAULT');
    await sql(url, 'DROP SEQUENCE idempotency_cache_fence_seq');
    expect(await refusal()).toContain('sequence');
  });

  it.each(['table', 'sequence'])('misses rights on the %s', async (what) => {
    await migrate(url);
    await sql(url, `CREATE ROLE app_${what} LOGIN`);
    if (what === 'sequence') await sql(url, `GRANT ALL ON idempotency_cache TO app_${what}`);
    const message = await refusal({ dataSource: { url: url.replace('postgres@', `app_${what}@`) } });
    expect(message).toContain('GRANT');
  });

  it('is content with the rights that the head of the migration lists', async () => {
    await migrate(url);
    await sql(url, 'CREATE ROLE app LOGIN');
    await sql(url, 'GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_cache TO app');
    await sql(url, 'GRANT USAGE ON SEQUENCE idempotency_cache_fence_seq TO app');
    await check({ dataSource: { url: url.replace('postgres@', 'app@') } });
  });

  it('asks for a DataSource that is initialized', () => {
    const dataSource = new DataSource({ type: 'postgres', url, entities: [IdempotencyCache] });
    expect(() => assertUsable(dataSource)).toThrow('not initialized');
  });

  it.each(['mysql', 'aurora-postgres', 'cockroachdb'])('does not take %s for Postgres', (type) => {
    const dataSource = { options: { type }, isInitialized: true, hasMetadata: () => true };
    expect(() => assertUsable(dataSource as unknown as DataSource)).toThrow(
      `"${type}", which is not supported`,
    );
  });

  it('lets the application start while Postgres cannot be reached, with a warning', async () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    const own = await startPostgres();
    const dataSource = await openDataSource(own.url);
    const connection = new PostgresConnection(applicationPool(dataSource), { timeout: 500, poolSize: 1 });
    await own.stop();
    const names = tableNames(dataSource.getMetadata(IdempotencyCache));
    await assertMigratedIfUp(connection, names);
    expect(warn).toHaveBeenCalledWith(expect.stringContaining('is not checked at this start'));
    await expect(assertMigrated(connection, names)).rejects.toThrow(StoreUnavailableError);
    await connection.close();
    await dataSource.destroy().catch(() => undefined);
  });

  it('answers at once although the table is locked', async () => {
    await migrate(url);
    const opened = await databases.open({ timeout: 60_000 });
    const holder = opened.dataSource.createQueryRunner();
    await holder.startTransaction();
    await holder.query('LOCK TABLE idempotency_cache');
    await assertMigrated(opened.connection, opened.names);
    await holder.rollbackTransaction();
    await holder.release();
  });
});
