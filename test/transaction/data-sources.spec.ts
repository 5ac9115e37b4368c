import { Module, type DynamicModule } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { getDataSourceToken, TypeOrmModule } from '@nestjs/typeorm';
import * as pg from 'pg';
import { DataSource } from 'typeorm';
import { Controller, Inject, Post, type INestApplicationContext } from '@nestjs/common';
import {
  CreateIdempotencyCache1764000000015,
  Idempotent,
  IdempotencyModule,
  IdempotencyService,
  type IdempotencyModuleOptions,
} from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { sql } from '../support/database';

@Controller()
class OrdersController {
  constructor(@Inject(DataSource) private readonly dataSource: DataSource) {}

  @Post('orders')
  @Idempotent({ transaction: true })
  create(): Promise<unknown> {
    return this.dataSource.query('SELECT 1');
  }
}

@Module({})
class App {}

/**
 * A driver whose client does not show its socket, as that of pg-native, which would have to be compiled. Those that are
 * given an address connect all the same, so that TypeORM can start.
 */
function withoutSocket(): object {
  class Client extends pg.Client {
    constructor(config?: pg.ClientConfig) {
      super(config);
      if (!config?.connectionString) Object.assign(this, { connection: undefined });
    }
  }
  class Pool extends pg.Pool {
    constructor(config?: pg.PoolConfig) {
      super({ ...config, Client });
    }
  }
  return { ...pg, Client, Pool };
}

describe('the DataSource of transactions', () => {
  let postgres: RunningPostgres;
  let other: string;

  beforeAll(async () => {
    postgres = await startPostgres();
    await sql(postgres.url, 'CREATE DATABASE other');
    const url = new URL(postgres.url);
    url.pathname = '/other';
    other = url.href;
  });
  afterAll(() => postgres.stop());

  const start = (
    connections: Record<string, string>,
    options: IdempotencyModuleOptions,
    driver?: object,
  ): Promise<INestApplicationContext> => {
    const module: DynamicModule = {
      module: App,
      imports: [
        ...Object.entries(connections).map(([name, url]) =>
          TypeOrmModule.forRoot({
            ...(name === 'default' ? {} : { name }),
            type: 'postgres',
            url,
            driver,
            retryAttempts: 0,
            migrations: [CreateIdempotencyCache1764000000015],
            migrationsRun: true,
          }),
        ),
        IdempotencyModule.forRoot({ redis: false, ...options }),
      ],
      controllers: connections.default ? [OrdersController] : [],
    };
    return NestFactory.createApplicationContext(module, { logger: false, abortOnError: false });
  };

  it.each([
    ['the only one', { records: '' }, 'records'],
    [
      'the default one, where the records have another pool to the same table',
      { default: '', records: '' },
      undefined,
    ],
  ])('is %s', async (_, names, name) => {
    const connections = Object.fromEntries(Object.keys(names).map((each) => [each, postgres.url]));
    const app = await start(connections, { postgres: { dataSource: 'records' } });
    try {
      const dataSource = app.get<DataSource>(getDataSourceToken(name), { strict: false });
      const level = await app.get(IdempotencyService).execute(
        `key ${name}`,
        async ({ manager }) => {
          const ids = await Promise.all(
            [manager, dataSource].map((each) =>
              each.query<{ id: string }[]>('SELECT pg_current_xact_id()::text AS id'),
            ),
          );
          return new Set(ids.map(([row]) => row?.id)).size;
        },
        { transaction: true },
      );
      expect(level).toBe(1);
    } finally {
      await app.close();
    }
  });

  it('may not be in another database than the records', async () => {
    const starting = start(
      { default: postgres.url, records: other },
      { postgres: { dataSource: 'records' } },
    );
    await expect(starting).rejects.toThrow(/`postgres.dataSource` names another database/);
  });

  it.each(['default', 'records'])('may not use a client such as pg-native: %s', async (name) => {
    const connections = { default: postgres.url, [name]: postgres.url };
    const starting = start(connections, { postgres: { dataSource: name } }, withoutSocket());
    await expect(starting).rejects.toThrow(/needs the JavaScript client of pg.*`driver: \{ \.\.\.pg \}`/s);
  });

  it('uses the JavaScript client of pg where the driver is a copy of it', async () => {
    const { native } = { ...pg } as Partial<typeof pg>;
    expect(native).toBeUndefined(); // TypeORM takes it where pg-native is installed
    const app = await start({ default: postgres.url }, {}, { ...pg });
    await app.close();
  });

  it('is not asked for where no route is in this mode', async () => {
    const connections = { records: other };
    const app = await start(connections, { postgres: { dataSource: 'records' } });
    await app.close();
  });

  it.each([
    [{ postgres: false as const, redis: {}, transaction: true }, /needs Postgres/],
    [{ transaction: true, lease: '5s' as const }, /option "lease" contradicts "transaction"/],
  ])('is refused with options that contradict it: %j', async (options, message) => {
    const attempt = async (): Promise<unknown> => start({ default: postgres.url }, options);
    await expect(attempt()).rejects.toThrow(message);
  });
});
