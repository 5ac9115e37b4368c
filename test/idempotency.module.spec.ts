import { RedisModule } from '@nestjs-modules/ioredis';
import { Injectable, Module, type DynamicModule } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule, type TypeOrmModuleOptions } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import {
  CreateIdempotencyCache1764000000015,
  IdempotencyModule,
  IdempotencyService,
  type IdempotencyModuleOptions,
  type IdempotencyOptionsFactory,
  type Duration,
} from '../lib';
import { IdempotencyCache } from '../lib/typeorm';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../servers';

@Module({})
class RootModule {}

@Injectable()
class OptionsFactory implements IdempotencyOptionsFactory {
  createIdempotencyOptions(): IdempotencyModuleOptions {
    return { lease: '5s' };
  }
}

@Module({ providers: [OptionsFactory], exports: [OptionsFactory] })
class ConfigModule {}

describe('the set-up', () => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let databaseUrl: string;
  let open: DataSource[] = [];

  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
    databaseUrl = postgres.url;
  });
  afterAll(() => Promise.all([postgres.stop(), redis.stop()]));
  afterEach(async () => {
    await Promise.all(open.filter((each) => each.isInitialized).map((each) => each.destroy()));
    open = [];
  });

  const redisModule = (name?: string): DynamicModule =>
    RedisModule.forRoot({ type: 'single', url: redis.url, options: { lazyConnect: true } }, name);
  const typeOrm = (more: Partial<TypeOrmModuleOptions> = {}): DynamicModule =>
    TypeOrmModule.forRootAsync({
      name: more.name,
      useFactory: () =>
        ({
          type: 'postgres',
          url: databaseUrl,
          autoLoadEntities: true,
          migrations: [CreateIdempotencyCache1764000000015],
          migrationsRun: true,
          retryAttempts: 1,
          ...more,
        }) as TypeOrmModuleOptions,
      // Nest closes nothing of an application that failed to start.
      dataSourceFactory: async (options) => {
        const dataSource = await new DataSource(options!).initialize();
        open.push(dataSource);
        return dataSource;
      },
    });
  const start = async (...imports: DynamicModule['imports'] & object): Promise<unknown> => {
    const app = await NestFactory.createApplicationContext(
      { module: RootModule, imports },
      { logger: false, abortOnError: false },
    );
    try {
      return await app.get(IdempotencyService).execute('set-up', () => 'works');
    } finally {
      await app.close();
    }
  };

  it('works with no options on the default connections', async () => {
    expect(await start(redisModule(), typeOrm(), IdempotencyModule.forRoot())).toBe('works');
  });

  it('works whatever the order of the imports', async () => {
    expect(await start(IdempotencyModule.forRoot(), typeOrm(), redisModule())).toBe('works');
  });

  it.each<[string, Partial<TypeOrmModuleOptions>]>([
    ['named by hand', { entities: [IdempotencyCache] }],
    ['not registered', {}],
  ])('works with the entity %s', async (_, more) => {
    const explicit = typeOrm({ autoLoadEntities: false, ...more });
    expect(await start(redisModule(), explicit, IdempotencyModule.forRoot())).toBe('works');
  });

  it('works with named connections, and with a schema of the DataSource', async () => {
    const named = typeOrm({ name: 'main', schema: 'public' });
    const options = { redis: { connection: 'cache' }, postgres: { dataSource: 'main' } };
    expect(await start(redisModule('cache'), named, IdempotencyModule.forRoot(options))).toBe('works');
  });

  it.each<[string, () => DynamicModule]>([
    [
      'useFactory',
      () =>
        IdempotencyModule.forRootAsync({
          imports: [ConfigModule],
          inject: [OptionsFactory],
          useFactory: async (factory: OptionsFactory) => factory.createIdempotencyOptions(),
        }),
    ],
    ['useClass', () => IdempotencyModule.forRootAsync({ useClass: OptionsFactory })],
    [
      'useExisting',
      () => IdempotencyModule.forRootAsync({ imports: [ConfigModule], useExisting: OptionsFactory }),
    ],
  ])('works with forRootAsync and %s', async (_, idempotency) => {
    expect(await start(redisModule(), typeOrm(), idempotency())).toBe('works');
  });

  it('works without Redis', async () => {
    expect(await start(typeOrm(), IdempotencyModule.forRoot({ redis: false }))).toBe('works');
  });

  it('fails at start when it is imported twice', async () => {
    const twice = [
      IdempotencyModule.forRoot({ redis: false }),
      IdempotencyModule.forRoot({ redis: false, lease: '9s' }),
    ];
    const app = await NestFactory.create(
      { module: RootModule, imports: [typeOrm(), ...twice] },
      { logger: false, abortOnError: false },
    );
    await expect(app.init()).rejects.toThrow(/imported twice/);
    await app.close();
  });

  it.each<[string, () => Promise<unknown>, RegExp]>([
    [
      'the Redis connection',
      () => start(typeOrm(), IdempotencyModule.forRoot()),
      /there is no default Redis connection.*RedisModule\.forRoot/,
    ],
    [
      'a named Redis connection',
      () => start(redisModule(), typeOrm(), IdempotencyModule.forRoot({ redis: { connection: 'cache' } })),
      /no Redis connection named "cache"/,
    ],
    [
      'the DataSource',
      () => start(redisModule(), IdempotencyModule.forRoot()),
      /there is no default DataSource.*TypeOrmModule\.forRoot/,
    ],
    [
      'a named DataSource',
      () => start(redisModule(), typeOrm(), IdempotencyModule.forRoot({ postgres: { dataSource: 'main' } })),
      /no DataSource named "main"/,
    ],
    [
      'the table',
      async () =>
        start(
          redisModule(),
          typeOrm({ url: await postgres.createDatabase(), migrations: [] }),
          IdempotencyModule.forRoot(),
        ),
      /the table .* is missing.*015_idempotency_cache\.sql/,
    ],
    [
      'a valid option from the factory',
      () =>
        start(
          redisModule(),
          typeOrm(),
          IdempotencyModule.forRootAsync({ useFactory: () => ({ lease: 'long' as Duration }) }),
        ),
      /option "lease" is 'long'/,
    ],
  ])('fails at start with the fix when %s is missing', async (_, starting, message) => {
    await expect(starting()).rejects.toThrow(message);
  });
});
