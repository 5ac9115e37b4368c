import { randomUUID } from 'node:crypto';
import { Body, Controller, Module, Post, type DynamicModule } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Cluster, Redis } from 'ioredis';
import { Client, Pool, types, type PoolConfig } from 'pg';
import {
  Idempotent,
  IdempotencyHealth,
  IdempotencyModule,
  type IdempotencyModuleOptions,
  type IoredisClient,
  type PgPool,
} from '../../lib';
import {
  startPostgres,
  startRedis,
  startRedisCluster,
  type RunningPostgres,
  type RunningRedis,
} from '../../servers';
import { startApp, type Platform, type TestApp } from '../support/app';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import { call, comparable, isReplay, type Answer, type Call } from '../support/http';
import { metric } from '../support/metrics';
import { migrate, whileFrozen } from '../support/postgres-store';

let runs = 0;

@Controller()
class LeadsController {
  @Post('leads')
  @Idempotent({ required: true })
  create(@Body() body: unknown): unknown {
    runs++;
    return { nonce: randomUUID(), body };
  }
}

@Controller()
class TransactionalController {
  @Post('leads')
  @Idempotent({ transaction: true })
  create(): string {
    return 'created';
  }
}

const CLIENT = Symbol('redis');
const POOL = Symbol('pool');

/** As an application without `@nestjs-modules/ioredis` and TypeORM has its clients. */
@Module({})
class ClientsModule {
  static of(client: Redis | Cluster, pool: Pool): DynamicModule {
    const providers = [
      { provide: CLIENT, useValue: client },
      { provide: POOL, useValue: pool },
    ];
    return { module: ClientsModule, providers, exports: providers };
  }
}

describe('an application that brings its own clients', () => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let url: string;
  let client: Redis;
  let pool: Pool;
  let app: TestApp | undefined;
  const ends: (() => unknown)[] = [];

  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  });
  afterAll(() => Promise.all([postgres.stop(), redis.stop()]));
  beforeEach(async () => {
    runs = 0;
    url = await postgres.createDatabase();
    await migrate(url);
    client = new Redis(redis.url);
    client.on('error', () => undefined);
    await client.flushall();
    pool = newPool({});
  });
  afterEach(async () => {
    await app?.close();
    app = undefined;
    client.disconnect();
    await Promise.all(ends.splice(0).map((end) => end()));
  });

  function newPool(config: PoolConfig): Pool {
    const made = new Pool({ connectionString: url, ...config });
    made.on('error', () => undefined);
    ends.push(() => made.ended || made.end());
    return made;
  }

  const start = async (
    options: IdempotencyModuleOptions = { redis: { client }, postgres: { pool } },
    platform?: Platform,
  ): Promise<TestApp> => (app = await startApp({ controllers: [LeadsController], options, platform }));

  /** With a Redis that the test may break. */
  async function startOnOwnRedis(): Promise<RunningRedis> {
    const own = await startRedis();
    const ownClient = new Redis(own.url);
    ownClient.on('error', () => undefined);
    ends.push(
      () => own.stop(),
      () => ownClient.disconnect(),
    );
    await start({ redis: { client: ownClient }, postgres: { pool } });
    return own;
  }

  const post = (key: string): Promise<Answer> =>
    app!.call('/leads', { headers: { 'idempotency-key': key }, body: { key } });

  const connections = async (): Promise<string[]> => {
    const rows = await sql<{ name: string }>(
      url,
      `SELECT application_name AS name FROM pg_stat_activity
       WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY 1`,
    );
    return rows.map(({ name }) => name);
  };

  /** A first request, then its retry from each store. */
  async function expectBothTiers(): Promise<void> {
    const key = randomUUID();
    const first = await post(key);
    expect([first.status, isReplay(first)]).toEqual([201, false]);
    await eventually(async () => {
      const before = await metric('idempotency_redis_hits');
      expect(comparable(await post(key))).toEqual(comparable(first));
      expect(await metric('idempotency_redis_hits')).toBe(before + 1);
    });
    await client.flushall();
    const before = await metric('idempotency_db_hits');
    const replay = await post(key);
    expect(comparable(replay)).toEqual(comparable(first));
    expect(isReplay(replay)).toBe(true);
    expect(await metric('idempotency_db_hits')).toBe(before + 1);
    expect(runs).toBe(1);
  }

  it.each<Platform>(['express', 'fastify'])('has both tiers, on %s', async (platform) => {
    await start(undefined, platform);
    await expectBothTiers();
    expect(await app!.app.get(IdempotencyHealth).check()).toEqual({ redis: 'up', postgres: 'up' });
  });

  it('has both tiers with clients that a factory is given', async () => {
    @Module({
      imports: [
        IdempotencyModule.forRootAsync({
          imports: [ClientsModule.of(client, pool)],
          inject: [CLIENT, POOL],
          useFactory: (injected: Redis, injectedPool: Pool) => ({
            redis: { client: injected },
            postgres: { pool: injectedPool },
          }),
        }),
      ],
      controllers: [LeadsController],
    })
    class AsyncModule {}
    const nest = await NestFactory.create(AsyncModule, { logger: false, abortOnError: false });
    await nest.listen(0, '127.0.0.1');
    const at = (await nest.getUrl()).replace('localhost', '127.0.0.1');
    app = {
      call: (path: string, request?: Call) => call(at + path, request),
      close: () => nest.close(),
    } as TestApp;
    await expectBothTiers();
  });

  it('leaves its clients as they are: they are neither used nor closed', async () => {
    pool = newPool({ application_name: 'shop' });
    const lazy = new Redis(redis.url, { lazyConnect: true });
    await start({ redis: { client: lazy }, postgres: { pool } });
    await post('key');
    expect(lazy.status).toBe('wait');
    expect([pool.totalCount, pool.ended]).toEqual([0, false]);
    expect(new Set(await connections())).toEqual(new Set(['shop idempotency']));
    await app!.close();
    app = undefined;
    expect(await connections()).toEqual([]);
    expect((await pool.query<{ one: number }>('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect(await lazy.ping()).toBe('PONG');
    lazy.disconnect();
  });

  it('is served while its handlers hold all connections of its pool', async () => {
    pool = newPool({ max: 1 });
    await start();
    const held = await pool.connect();
    try {
      expect((await post('key')).status).toBe(201);
      expect(isReplay(await post('key'))).toBe(true);
    } finally {
      held.release();
    }
  });

  it('records what comes after it has ended its pool', async () => {
    await start({ redis: false, postgres: { pool } });
    await pool.end();
    expect((await post('key')).status).toBe(201);
    expect(await sql(url, 'SELECT state FROM idempotency_cache WHERE key = $1', ['key'])).toEqual([
      { state: 'completed' },
    ]);
  });

  describe('whose pool is set up in its own way', () => {
    const { INT8 } = types.builtins;
    const parser: (text: string) => unknown = types.getTypeParser(INT8);
    afterEach(() => types.setTypeParser(INT8, parser));

    it.each(['billing', 'public,billing'])(
      'is found in the schema that its search_path names: %s',
      async (path) => {
        await sql(url, 'CREATE SCHEMA billing; ALTER TABLE idempotency_cache SET SCHEMA billing');
        await start({ redis: false, postgres: { pool: newPool({ options: `-c search_path=${path}` }) } });
        expect((await post('key')).status).toBe(201);
        expect(
          await sql(url, 'SELECT key FROM billing.idempotency_cache WHERE scope LIKE $1', ['POST%']),
        ).toEqual([{ key: 'key' }]);
      },
    );

    it.each<[string, () => Pool]>([
      [
        'a password that is asked for',
        () => newPool({ ...parts(), password: () => Promise.resolve(parts().password) }),
      ],
      [
        'parsers of types that are not pg’s',
        () => {
          types.setTypeParser(INT8, (text) => BigInt(text));
          return newPool({ types: { getTypeParser: () => () => 'parsed' } });
        },
      ],
      [
        'time-outs',
        () =>
          newPool({
            statement_timeout: 2_000,
            query_timeout: 1,
            idleTimeoutMillis: 1,
            connectionTimeoutMillis: 1,
          }),
      ],
      [
        'a class of its own, which takes no options',
        () => {
          const at = url;
          class OwnPool extends Pool {
            constructor() {
              super({ connectionString: at, max: 1 });
            }
          }
          const own = new OwnPool();
          ends.push(() => own.end());
          return own;
        },
      ],
      ['a client of its own', () => newPool({ Client: class OwnClient extends Client {} })],
      [
        'pg of another copy',
        () => {
          let other!: Pool;
          jest.isolateModules(() => {
            const { Pool: OtherPool } = jest.requireActual<typeof import('pg')>('pg');
            other = new OtherPool({ connectionString: url });
          });
          expect(other).not.toBeInstanceOf(Pool);
          ends.push(() => other.end());
          return other;
        },
      ],
    ])('works with %s', async (_, made) => {
      await start({ redis: { client }, postgres: { pool: made() } });
      await expectBothTiers();
    });

    const parts = (): PoolConfig & { password: string } => {
      const { hostname, port, username, password, pathname } = new URL(url);
      return {
        connectionString: undefined,
        host: hostname,
        port: Number(port),
        user: username,
        password,
        database: pathname.slice(1),
      };
    };

    it('is refused at start without the table, with what makes it', async () => {
      await sql(url, 'DROP TABLE idempotency_cache');
      await expect(start()).rejects.toThrow(
        /the table "idempotency_cache" is missing. Run `psql "\$DATABASE_URL" < /,
      );
    });
  });

  describe('whose Redis client is set up in its own way', () => {
    it.each<[string, () => Redis]>([
      ['another database and a prefix', () => new Redis(redis.url, { db: 3, keyPrefix: 'shop:' })],
      [
        'no queue and a lazy connection',
        () => new Redis(redis.url, { enableOfflineQueue: false, lazyConnect: true }),
      ],
      [
        'pipelining and numbers as text',
        () => new Redis(redis.url, { enableAutoPipelining: true, stringNumbers: true }),
      ],
      [
        'ioredis of another copy',
        () => {
          let other!: Redis;
          jest.isolateModules(() => {
            other = new (jest.requireActual<typeof import('ioredis')>('ioredis').Redis)(redis.url);
          });
          expect(other).not.toBeInstanceOf(Redis);
          return other;
        },
      ],
    ])('works with %s', async (_, made) => {
      const own = made();
      ends.push(() => own.disconnect());
      await start({ redis: { client: own }, postgres: { pool } });
      await expectBothTiers();
    });

    it('works with a client that has ended', async () => {
      const ended = new Redis(redis.url, { lazyConnect: true });
      ended.disconnect();
      await start({ redis: { client: ended }, postgres: { pool } });
      await expectBothTiers();
    });

    it('puts the prefix of the client before its own', async () => {
      const own = new Redis(redis.url, { keyPrefix: 'shop:' });
      ends.push(() => own.disconnect());
      await start({ redis: { client: own }, postgres: { pool } });
      await post('key');
      await eventually(async () =>
        expect((await client.keys('shop:idempotency:*')).length).toBeGreaterThan(1),
      );
    });

    it('works with a Cluster', async () => {
      const nodes = await startRedisCluster();
      const cluster = new Cluster(nodes.map(({ port }) => ({ host: '127.0.0.1', port })));
      cluster.on('error', () => undefined);
      try {
        await start({ redis: { client: cluster, timeout: '2s' }, postgres: false });
        const first = await post('key');
        expect(first.status).toBe(201);
        expect(comparable(await post('key'))).toEqual(comparable(first));
        expect(runs).toBe(1);
        await app!.close();
        app = undefined;
        expect(cluster.status).toBe('ready');
      } finally {
        cluster.disconnect();
        await Promise.all(nodes.map((node) => node.stop()));
      }
    });
  });

  it('is served by Postgres while Redis is killed, and by Redis when it is back', async () => {
    const own = await startOnOwnRedis();
    const first = await post('key');
    own.kill('SIGKILL');
    expect(comparable(await post('key'))).toEqual(comparable(first));
    expect((await post('other')).status).toBe(201);
    await own.restart();
    await eventually(async () =>
      expect(await app!.app.get(IdempotencyHealth).check()).toEqual({ redis: 'up', postgres: 'up' }),
    );
  });

  it('is served by Postgres while Redis is frozen', async () => {
    const own = await startOnOwnRedis();
    own.kill('SIGSTOP');
    try {
      const first = await post('key');
      expect(first.status).toBe(201);
      expect(comparable(await post('key'))).toEqual(comparable(first));
    } finally {
      own.kill('SIGCONT');
    }
  });

  it('gets 503 for new keys while Postgres is frozen, and known ones from Redis', async () => {
    await start({ redis: { client, timeout: '1s' }, postgres: { pool, timeout: '1s' } });
    const first = await post('known');
    await eventually(async () => {
      const before = await metric('idempotency_redis_hits');
      await post('known');
      expect(await metric('idempotency_redis_hits')).toBe(before + 1);
    });
    await whileFrozen(postgres, url, async () => {
      expect((await post('new')).status).toBe(503);
      expect(comparable(await post('known'))).toEqual(comparable(first));
    });
    await eventually(async () => expect((await post('new')).status).toBe(201));
    expect(runs).toBe(2);
  });

  describe('is refused at start', () => {
    const SECRET = 'shown-nowhere';
    const idle = (): Redis => new Redis({ lazyConnect: true, password: SECRET });

    it.each<[string, () => IdempotencyModuleOptions, RegExp]>([
      [
        'with a pool and a DataSource',
        () => ({ postgres: { pool, dataSource: 'main' } }),
        /postgres\.pool takes the place of postgres\.dataSource: remove one/,
      ],
      [
        'with a client and a connection',
        () => ({ redis: { client, connection: 'cache' } }),
        /redis\.client takes the place of redis\.connection: remove one/,
      ],
      [
        'with a pool and transactions',
        () => ({ postgres: { pool }, transaction: true }),
        /option "transaction" needs a DataSource of TypeORM, .* `postgres\.pool` is not one/,
      ],
      [
        'with a client of pg in place of a pool',
        () => ({ postgres: { pool: new Client({ password: SECRET }) as unknown as PgPool } }),
        /option "postgres\.pool" is not valid \(its value is not shown\), but must be a Pool of pg$/,
      ],
      [
        'with a URL in place of a client',
        () => ({ redis: { client: `redis://:${SECRET}@localhost` as unknown as IoredisClient } }),
        /option "redis\.client" is not valid \(its value is not shown\), but must be a Redis or Cluster of ioredis$/,
      ],
      [
        'with the client in place of the options',
        () => ({ redis: idle() as unknown as { client: Redis } }),
        /option "redis" is an instance of a class, but must be within options: write `redis: { client }`$/,
      ],
      [
        'with the pool in place of the options',
        () => ({ postgres: newPool({ password: SECRET }) as unknown as { pool: Pool } }),
        /option "postgres" is an instance of a class, but must be within options: write `postgres: { pool }`$/,
      ],
    ])('%s', (_, options, message) => {
      let said = '';
      try {
        IdempotencyModule.forRoot(options());
      } catch (error) {
        said = String(error);
      }
      expect(said).toMatch(message);
      expect(said).not.toContain(SECRET);
    });

    it('with a pool and a route in the transaction mode', async () => {
      const starting = startApp({
        controllers: [TransactionalController],
        options: { redis: false, postgres: { pool } },
      });
      await expect(starting).rejects.toThrow(
        /TransactionalController\.create.*option "transaction" needs a DataSource of TypeORM/,
      );
    });
  });

  it('cannot have work in the transaction mode: that is refused when it is called', async () => {
    await start();
    const called = app!.service.execute('key', () => 1, { transaction: true });
    await expect(called).rejects.toThrow(
      /execute options: option "transaction" needs a DataSource of TypeORM/,
    );
  });
});
