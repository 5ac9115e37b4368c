import { RedisModule } from '@nestjs-modules/ioredis';
import { Module, type DynamicModule } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule, type TypeOrmModuleOptions } from '@nestjs/typeorm';
import { Redis } from 'ioredis';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { DataSource, DefaultNamingStrategy, Entity, PrimaryColumn } from 'typeorm';
import {
  CreateIdempotencyCache1764000000015,
  IdempotencyModule,
  IdempotencyService,
  type IdempotencyModuleOptions,
} from '../../lib';
import { IdempotencyCache } from '../../lib/typeorm';
import { findPsql, startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import { IS_RECORD } from '../support/stored';

@Module({})
class RootModule {}

@Entity()
class Lead {
  @PrimaryColumn('text')
  id!: string;
}

class Prefixes extends DefaultNamingStrategy {
  override tableName(target: string, name: string | undefined): string {
    return `shop_${super.tableName(target, name)}`;
  }
}

class UpperCase extends DefaultNamingStrategy {
  override tableName(target: string, name: string | undefined): string {
    return super.tableName(target, name).toUpperCase();
  }
  override columnName(property: string, name: string | undefined, embedded: string[]): string {
    return super.columnName(property, name ?? '', embedded).toUpperCase();
  }
}

const run = promisify(execFile);
const ROOT = join(__dirname, '../..');
/** A healthy Redis takes longer on a busy machine than it may by default. */
const REDIS_ALONE = { postgres: false, redis: { timeout: '2s' } } as const;

describe('an application whose TypeORM is set up in its own way', () => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let url: string;
  const open: DataSource[] = [];

  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  });
  afterAll(() => Promise.all([postgres.stop(), redis.stop()]));
  beforeEach(async () => {
    url = await postgres.createDatabase();
  });
  afterEach(async () => {
    // Nest closes nothing of an application that failed to start.
    await Promise.all(open.splice(0).flatMap((each) => (each.isInitialized ? [each.destroy()] : [])));
  });

  const typeOrm = (more: Partial<TypeOrmModuleOptions> = {}): DynamicModule =>
    TypeOrmModule.forRootAsync({
      useFactory: () =>
        ({
          type: 'postgres',
          url,
          autoLoadEntities: true,
          retryAttempts: 1,
          ...more,
        }) as TypeOrmModuleOptions,
      dataSourceFactory: async (options) => {
        const dataSource = new DataSource(options!);
        open.push(dataSource);
        return dataSource.initialize();
      },
    });
  const redisModule = (): DynamicModule =>
    RedisModule.forRoot({ type: 'single', url: redis.url, options: { lazyConnect: true } });

  /** Starts an application, and uses it. */
  const start = (...imports: DynamicModule['imports'] & object): Promise<unknown> =>
    startUntil(() => Promise.resolve(), ...imports);

  async function startUntil(
    used: () => Promise<void>,
    ...imports: DynamicModule['imports'] & object
  ): Promise<unknown> {
    const app = await NestFactory.createApplicationContext(
      { module: RootModule, imports },
      { logger: false, abortOnError: false },
    );
    try {
      const service = app.get(IdempotencyService);
      // A Redis that decides may not have answered in time at start: nothing runs then, and it is asked again.
      await eventually(() => service.execute('key', () => 'first'));
      const answer = await eventually(() => service.execute('key', () => 'second'));
      await used();
      return answer;
    } finally {
      await app.close();
    }
  }
  const withPostgres = (more: Partial<TypeOrmModuleOptions> = {}): Promise<unknown> =>
    start(typeOrm(more), IdempotencyModule.forRoot({ redis: false }));
  const refusal = async (more: Partial<TypeOrmModuleOptions> = {}): Promise<string> =>
    withPostgres(more).then(
      () => 'it started',
      (error: unknown) => String(error),
    );
  /** Does what the error says, in a shell, where the package is installed. */
  const follow = async (advice: string): Promise<void> => {
    const [, command = ''] = /Run `([^`]+)`/.exec(advice) ?? [];
    expect(command).toContain('psql');
    const here = command.replace('node_modules/nestjs-idempotency/', `${ROOT}/`);
    const psql = await findPsql();
    const script = here.replace('psql', `${psql.command} -v ON_ERROR_STOP=1 -q`);
    await run('bash', ['-c', `set -o pipefail; ${script}`], { env: { ...psql.env, DATABASE_URL: url } });
  };
  const tables = async (): Promise<unknown[]> =>
    (
      await sql<{ name: string }>(
        url,
        `SELECT schemaname || '.' || tablename AS name FROM pg_tables
         WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND tablename ILIKE '%idempotency%' ORDER BY 1`,
      )
    ).map(({ name }) => name);

  const SETUPS: [string, Partial<TypeOrmModuleOptions>, string][] = [
    ['no more', {}, 'public.idempotency_cache'],
    ['an entityPrefix', { entityPrefix: 'app_' }, 'public.app_idempotency_cache'],
    [
      'a naming strategy that prefixes tables',
      { namingStrategy: new Prefixes() },
      'public.shop_idempotency_cache',
    ],
    ['both', { namingStrategy: new Prefixes(), entityPrefix: 'app_' }, 'public.app_shop_idempotency_cache'],
    ['a schema', { schema: 'billing' }, 'billing.idempotency_cache'],
    ['a schema in mixed case', { schema: 'Billing' }, 'Billing.idempotency_cache'],
    [
      'a schema and an entityPrefix',
      { schema: 'billing', entityPrefix: 'app_' },
      'billing.app_idempotency_cache',
    ],
    [
      'upper-case names of tables and columns',
      { namingStrategy: new UpperCase() },
      'public.IDEMPOTENCY_CACHE',
    ],
  ];

  describe.each(SETUPS)('with %s', (_, given, table) => {
    const more = given;
    beforeEach(() => sql(url, 'CREATE SCHEMA billing; CREATE SCHEMA "Billing"'));
    const migrated = { ...given, migrations: [CreateIdempotencyCache1764000000015], migrationsRun: true };

    it('starts with the table that the migration class makes, and reverts it', async () => {
      expect(await withPostgres(migrated)).toBe('first');
      expect(await tables()).toEqual([table]);
      expect(await withPostgres({ ...migrated, entities: [IdempotencyCache] })).toBe('first');
      const dataSource = await new DataSource({ type: 'postgres', url, ...migrated } as never).initialize();
      open.push(dataSource);
      await dataSource.undoLastMigration();
      expect(await tables()).toEqual([]);
    });

    it('starts with synchronize, again and again, and loses nothing', async () => {
      const synchronized = { ...more, synchronize: true, entities: [Lead, IdempotencyCache] };
      expect(await withPostgres(synchronized)).toBe('first');
      expect(await tables()).toEqual([table]);
      expect(await withPostgres(synchronized)).toBe('first');
      expect(await sql(url, `SELECT FROM ${quoted(table)} WHERE ${IS_RECORD}`)).toHaveLength(1);
    });

    it('starts with synchronize on what the migration has made, and changes nothing of it', async () => {
      await withPostgres(migrated);
      const shape = async (): Promise<unknown> =>
        sql(
          url,
          `SELECT attname, atttypid::int, (SELECT count(*)::int FROM pg_constraint WHERE conrelid = attrelid) AS checks,
             (SELECT json_agg(indexrelid::int ORDER BY 1) FROM pg_index WHERE indrelid = attrelid) AS indexes
           FROM pg_attribute WHERE attrelid = '${quoted(table)}'::regclass AND attnum > 0 ORDER BY attnum`,
        );
      const before = await shape();
      expect(await withPostgres({ ...more, synchronize: true, entities: [IdempotencyCache] })).toBe('first');
      expect(await shape()).toEqual(before);
      expect(await sql(url, `SELECT FROM ${quoted(table)} WHERE ${IS_RECORD}`)).toHaveLength(1);
    });

    it('refuses to start without the table, and its advice helps', async () => {
      const message = await refusal(more);
      expect(message).toContain('is missing');
      expect(message).toContain('CreateIdempotencyCache1764000000015');
      if (table.endsWith('CACHE')) return; // psql cannot be told such a name; the migration class is
      await follow(message);
      expect(await tables()).toEqual([table]);
      expect(await withPostgres(more)).toBe('first');
    });
  });

  it('two applications with prefixes of their own share a schema, each with its own table', async () => {
    const migrations = { migrations: [CreateIdempotencyCache1764000000015], migrationsRun: true };
    for (const entityPrefix of ['a_', 'b_']) {
      expect(
        await withPostgres({ ...migrations, entityPrefix, migrationsTableName: `${entityPrefix}migrations` }),
      ).toBe('first');
    }
    const indexes = await sql(
      url,
      `SELECT indexname FROM pg_indexes WHERE tablename = 'b_idempotency_cache'`,
    );
    expect(indexes).toHaveLength(3);
    expect(await tables()).toEqual(['public.a_idempotency_cache', 'public.b_idempotency_cache']);
    expect(
      await sql(url, `SELECT b_idempotency_cache.key FROM b_idempotency_cache WHERE ${IS_RECORD}`),
    ).toHaveLength(1);
    expect(await sql(url, 'SELECT cleanup_a_idempotency_cache(10) AS deleted')).toEqual([{ deleted: 0 }]);
  });

  it('names the search_path where that is not public', async () => {
    await sql(url, 'CREATE SCHEMA billing');
    const more = { extra: { options: '-c search_path=billing' } };
    await follow(await refusal(more));
    expect(await tables()).toEqual(['billing.idempotency_cache']);
    expect(await withPostgres(more)).toBe('first');
  });

  it('names a schema that is missing', async () => {
    expect(await refusal({ schema: 'nowhere' })).toMatch(/the schema "nowhere" of the DataSource is missing/);
  });

  it('reads its rows through a repository', async () => {
    const migrations = [CreateIdempotencyCache1764000000015];
    const more = { migrations, migrationsRun: true, entityPrefix: 'app_', entities: [IdempotencyCache] };
    await withPostgres(more);
    const dataSource = await new DataSource({ type: 'postgres', url, ...more } as never).initialize();
    open.push(dataSource);
    const [row] = await dataSource.getRepository(IdempotencyCache).findBy({ key: 'key' });
    expect(row).toMatchObject({ key: 'key', state: 'completed' });
  });

  describe('under a role that may not create tables', () => {
    const limited = (): Partial<TypeOrmModuleOptions> => ({
      url: url.replace('postgres@', 'limited@'),
      synchronize: true,
    });

    it('synchronize says what is to be done', async () => {
      await sql(url, `DO $$ BEGIN CREATE ROLE limited LOGIN; EXCEPTION WHEN duplicate_object THEN END $$`);
      expect(await refusal(limited())).toMatch(
        /`synchronize` is on, but the table cannot be made: Postgres says "permission denied.*run the migration/,
      );
    });
  });

  it('refuses to start with an unlogged table, and its advice helps', async () => {
    await withPostgres({ migrations: [CreateIdempotencyCache1764000000015], migrationsRun: true });
    await sql(url, 'ALTER TABLE idempotency_cache SET UNLOGGED');
    const message = await refusal();
    expect(message).toContain('is unlogged, so a crash of Postgres would empty it');
    const [, statement = ''] = /Run `([^`]+)`/.exec(message) ?? [];
    await sql(url, statement);
    expect(await withPostgres()).toBe('first');
  });

  it('refuses to start where one partition is unlogged', async () => {
    await sql(url, readFileSync(join(ROOT, 'migrations/015_idempotency_cache_partitioned.sql'), 'utf8'));
    expect(await withPostgres()).toBe('first');
    const [{ name }] = (await sql<{ name: string }>(
      url,
      `SELECT min(inhrelid::regclass::text) AS name FROM pg_inherits WHERE inhparent = 'idempotency_cache'::regclass`,
    )) as [{ name: string }];
    await sql(url, `ALTER TABLE ${name} SET UNLOGGED`);
    expect(await refusal()).toContain('is unlogged');
  });

  it('refuses to start where its role may use no schema of its search_path, and says so', async () => {
    await sql(
      url,
      `CREATE SCHEMA hidden; DO $$ BEGIN CREATE ROLE outsider LOGIN; EXCEPTION WHEN duplicate_object THEN END $$;
       ALTER ROLE outsider SET search_path = hidden`,
    );
    const message = await refusal({ url: url.replace('postgres@', 'outsider@') });
    expect(message).toMatch(/search_path of the role outsider has no schema .* GRANT USAGE/);
  });

  describe('with row level security on the table', () => {
    const asApp = (): Partial<TypeOrmModuleOptions> => ({ url: url.replace('postgres@', 'secured@') });

    beforeEach(async () => {
      await sql(
        url,
        `DO $$ BEGIN CREATE ROLE secured LOGIN; EXCEPTION WHEN duplicate_object THEN END $$;
         GRANT ALL ON SCHEMA public TO secured`,
      );
      await withPostgres({
        ...asApp(),
        migrations: [CreateIdempotencyCache1764000000015],
        migrationsRun: true,
      });
    });

    /** Does what the error says as the administrator. */
    const obey = async (message: string): Promise<void> => {
      const [, statement = ''] = /Run `([^`]+)`/.exec(message) ?? [];
      await sql(url, statement);
    };

    it.each([
      ['forced, without a policy', 'FORCE ROW LEVEL SECURITY', ''],
      ['with a policy that hides rows', 'FORCE ROW LEVEL SECURITY', `USING (scope = 'mine')`],
      ['with a policy for reading alone', 'FORCE ROW LEVEL SECURITY', 'FOR SELECT USING (true)'],
      ['with a policy for another role', 'FORCE ROW LEVEL SECURITY', 'TO pg_monitor USING (true)'],
    ])('refuses to start: %s; and its advice helps', async (_, force, policy) => {
      await sql(url, `ALTER TABLE idempotency_cache ENABLE ROW LEVEL SECURITY, ${force}`);
      if (policy) await sql(url, `CREATE POLICY given ON idempotency_cache ${policy}`);
      const message = await refusal(asApp());
      expect(message).toMatch(/row level security on the table .* does not allow the role .*UPDATE/);
      await obey(message);
      expect(await withPostgres(asApp())).toBe('first');
    });

    it('refuses to start where another role owns the table and no policy is there', async () => {
      await sql(
        url,
        `ALTER TABLE idempotency_cache OWNER TO postgres; ALTER TABLE idempotency_cache ENABLE ROW LEVEL SECURITY;
         GRANT ALL ON idempotency_cache TO secured; GRANT ALL ON SEQUENCE idempotency_cache_fence_seq TO secured`,
      );
      await obey(await refusal(asApp()));
      expect(await withPostgres(asApp())).toBe('first');
    });

    it('refuses to start with a restrictive policy', async () => {
      await sql(
        url,
        `ALTER TABLE idempotency_cache ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
         CREATE POLICY open ON idempotency_cache USING (true);
         CREATE POLICY closed ON idempotency_cache AS RESTRICTIVE USING (scope = 'mine')`,
      );
      expect(await refusal(asApp())).toContain('drop restrictive policies');
    });

    it('starts where it does not bind the role: its owner, or with a policy for every row', async () => {
      await sql(url, 'ALTER TABLE idempotency_cache ENABLE ROW LEVEL SECURITY');
      expect(await withPostgres(asApp())).toBe('first');
    });
  });

  describe('with a Redis user that has what docs/operate/redis.md says and no more', () => {
    const rules = (): string[] => {
      const doc = readFileSync(join(ROOT, 'docs/operate/redis.md'), 'utf8');
      return /^ACL SETUSER \S+ (.*)$/m.exec(doc)?.[1]?.split(' ') ?? [];
    };
    let admin: Redis;
    beforeEach(async () => {
      admin = new Redis(redis.url);
      await admin.flushall();
      await admin.acl('SETUSER', 'limited', 'reset', ...rules(), '+select');
    });
    afterEach(() => {
      admin.disconnect();
    });

    it.each<[string, IdempotencyModuleOptions]>([
      ['beside Postgres', {}],
      ['alone', REDIS_ALONE],
      [
        'alone, in another namespace with a secret',
        { ...REDIS_ALONE, namespace: 'a', secret: 's'.repeat(32) },
      ],
    ])('is refused nothing: %s', async (_, options) => {
      await admin.select(1);
      const limited = RedisModule.forRoot({
        type: 'single',
        url: redis.url.replace('redis://', 'redis://limited:secret@'),
        options: { lazyConnect: true, db: 1 },
      });
      const stored = typeOrm({ migrations: [CreateIdempotencyCache1764000000015], migrationsRun: true });
      const keys =
        options.postgres === false
          ? ['idempotency:mark-alone:hash', 'idempotency:mark:hash', 'idempotency:none:hash']
          : ['idempotency:hash:hash', 'idempotency:hash:mark', 'idempotency:mark:hash'];
      const written = (): Promise<void> =>
        eventually(async () => {
          const there = await admin.keys('*');
          expect(there.map((key) => key.replace(/[0-9a-f]{16,}/g, 'hash')).sort()).toEqual(keys);
        });
      expect(await startUntil(written, stored, limited, IdempotencyModule.forRoot(options))).toBe('first');
      expect(await admin.acl('LOG')).toEqual([]);
    });
  });

  describe('with postgres: false', () => {
    const onSqlJs = (): DynamicModule =>
      TypeOrmModule.forRoot({ type: 'sqljs', autoLoadEntities: true, synchronize: true, entities: [Lead] });
    afterEach(() => {
      delete process.env.DISABLE_DB_IDEMPOTENCY_FALLBACK;
    });

    it('starts beside a DataSource that is not Postgres', async () => {
      const idempotency = IdempotencyModule.forRoot(REDIS_ALONE);
      expect(await start(onSqlJs(), redisModule(), idempotency)).toBe('first');
    });

    it('starts beside one with forRootAsync', async () => {
      const idempotency = IdempotencyModule.forRootAsync({ useFactory: () => REDIS_ALONE });
      expect(await start(onSqlJs(), redisModule(), idempotency)).toBe('first');
    });

    it('starts beside one when the environment switches Postgres off', async () => {
      process.env.DISABLE_DB_IDEMPOTENCY_FALLBACK = '1';
      expect(await start(onSqlJs(), redisModule(), IdempotencyModule.forRoot())).toBe('first');
    });

    it.each(['forRoot', 'forRootAsync'] as const)('makes no table under synchronize (%s)', async (how) => {
      const idempotency =
        how === 'forRoot'
          ? IdempotencyModule.forRoot(REDIS_ALONE)
          : IdempotencyModule.forRootAsync({ useFactory: () => REDIS_ALONE });
      await start(typeOrm({ synchronize: true, entities: [Lead] }), redisModule(), idempotency);
      expect(await tables()).toEqual([]);
    });

    it('says so where it is left on beside one', async () => {
      await expect(start(onSqlJs(), redisModule(), IdempotencyModule.forRoot())).rejects.toThrow(
        /the DataSource is of type "sqljs", which is not supported/,
      );
    });
  });
});

function quoted(table: string): string {
  return table
    .split('.')
    .map((part) => `"${part}"`)
    .join('.');
}
