import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { getRedisConnectionToken, RedisModule } from '@nestjs-modules/ioredis';
import {
  Body,
  Controller,
  HttpCode,
  HttpException,
  Module,
  Post,
  UseInterceptors,
  type INestApplication,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import Redis from 'ioredis';
import { getDataSourceToken } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';
import {
  Idempotent,
  IdempotencyClaim,
  type Duration,
  type IdempotencyContext,
  type LegacyLookup,
} from '../../lib';
import { startRedis, type RunningRedis } from '../../servers';
import { HomeMadeInterceptor } from '../fixtures/migrating/home-made.interceptor';
import { homeMadeLookup } from '../fixtures/migrating/home-made.lookup';
import { nestarcLookup } from '../fixtures/migrating/nestarc.lookup';
import { nodeIdempotencyLookup } from '../fixtures/migrating/node-idempotency.lookup';
import { redisElseDatabaseLookup } from '../fixtures/migrating/redis-else-database.lookup';
import { closeWithRedis, REDIS_OPTIONS, startApp, type Platform, type TestApp } from '../support/app';
import { bothStores } from '../support/both-stores';
import { eventually } from '../support/eventually';
import { gate, type Gate } from '../support/gate';
import { call, comparable, isReplay, type Answer } from '../support/http';
import { REDIS_RECORDS } from '../support/stored';

interface Order {
  readonly name: string;
}

/** How often an order was made, by its name, whichever instance did it. */
const made = new Map<string, number>();
let held: Gate | undefined;
let failing = false;

const make = async ({ name }: Order): Promise<unknown> => {
  made.set(name, (made.get(name) ?? 0) + 1);
  await held?.pass();
  if (failing) throw new HttpException('out of stock', 503);
  return { name, nonce: randomUUID() };
};

@Controller()
@UseInterceptors(HomeMadeInterceptor)
class OldController {
  @Post('orders')
  orders(@Body() order: Order): Promise<unknown> {
    return make(order);
  }
}

@Module({})
class OldModule {}

@Controller()
class NewController {
  @Post('orders')
  @Idempotent({ required: true, waitTimeout: '5s' })
  orders(@Body() order: Order): Promise<unknown> {
    return make(order);
  }

  @Post('transactions')
  @Idempotent({ transaction: true })
  transactions(@Body() order: Order): Promise<unknown> {
    return make(order);
  }

  @Post('unprotected')
  @HttpCode(200)
  @Idempotent({ onOutage: 'execute', legacy: { lookup: (...asked) => lookup(...asked), timeout: '300ms' } })
  unprotected(@Body() order: Order): Promise<unknown> {
    return make(order);
  }

  @Post('eager')
  @Idempotent({
    legacy: { lookup: (...asked) => lookup(...asked), timeout: '300ms', onError: 'execute' },
  })
  eager(@Body() order: Order): Promise<unknown> {
    return make(order);
  }

  @Post('switched-off')
  @Idempotent({ legacy: false })
  switchedOff(@Body() order: Order): Promise<unknown> {
    return make(order);
  }

  @Post('attempts')
  @Idempotent({ lease: '1s' })
  attempts(@IdempotencyClaim() { attempt }: IdempotencyContext): number {
    return attempt;
  }
}

let lookup: LegacyLookup = () => undefined;

describe.each<Platform>(['express', 'fastify'])('a change from another system on %s', (platform) => {
  const stores = bothStores();
  const olds: INestApplication[] = [];
  let asked: string[];
  afterEach(() => Promise.all(olds.splice(0).map(closeWithRedis)));

  beforeEach(() => {
    asked = [];
    held = undefined;
    failing = false;
    made.clear();
    lookup = () => undefined;
  });

  /** An instance of the old version: its own interceptor, and the same Redis. */
  const startOld = async (): Promise<{ url: string; close: () => Promise<void> }> => {
    const imports = [RedisModule.forRoot({ type: 'single', url: stores.redis.url, options: REDIS_OPTIONS })];
    const app = await NestFactory.create(
      { module: OldModule, imports, controllers: [OldController] },
      { logger: false },
    );
    await app.listen(0, '127.0.0.1');
    olds.push(app);
    const url = (await app.getUrl()).replace('localhost', '127.0.0.1');
    return { url, close: () => closeWithRedis(app).then(() => void olds.splice(olds.indexOf(app), 1)) };
  };

  /** An instance of the new version. */
  const startNew = async (timeout: Duration = '1s'): Promise<TestApp> => {
    const app = await startApp({
      platform,
      databaseUrl: stores.postgres.url,
      redisUrl: stores.redis.url,
      controllers: [NewController],
      options: {
        postgres: { timeout: '1s' },
        legacy: {
          lookup: (key, context) => {
            asked.push(key);
            return lookup(key, context);
          },
          timeout,
        },
      },
    });
    stores.apps.push(app);
    return app;
  };

  const post = (url: string, key: string, name = key): Promise<Answer> =>
    call(url, { headers: { 'idempotency-key': key }, body: { name } });
  const typeOf = ({ text }: Answer): string =>
    (JSON.parse(text) as { type: string }).type.replace('urn:problem-type:nestjs-idempotency:', '');

  describe('with what an old instance has recorded', () => {
    it('a retry gets the old response from each instance, asks once, and needs the old system no longer', async () => {
      const old = await startOld();
      lookup = homeMadeLookup(stores.client);
      const [one, other] = [await startNew(), await startNew()];
      const key = randomUUID();
      const first = await post(`${old.url}/orders`, key);
      expect(first.status).toBe(201);
      const retry = await post(`${one.url}/orders`, key);
      expect([retry.status, isReplay(retry), retry.text]).toEqual([201, true, first.text]);
      expect(retry.headers['content-type']).toBe(first.headers['content-type']);
      await old.close();
      await stores.client.flushall(); // what the old one kept, and our copies
      for (const app of [one, other, one]) {
        const later = await post(`${app.url}/orders`, key);
        expect(comparable(later)).toEqual(comparable(retry));
      }
      expect([made.get(key), asked]).toEqual([1, [key]]);
    });

    it('duplicates at once ask once, and get the old response', async () => {
      const [one, other] = [await startNew(), await startNew()];
      const key = randomUUID();
      lookup = async () => ({ status: 202, headers: { 'X-Old': 'yes' }, body: { id: 7 } });
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, i) => post(`${(i % 2 ? one : other).url}/orders`, key)),
      );
      for (const { status, text, headers } of answers)
        expect([status, text, headers['x-old']]).toEqual([202, '{"id":7}', 'yes']);
      expect([made.get(key), asked]).toEqual([undefined, [key]]);
    });

    it('another request with the key gets 422', async () => {
      const app = await startNew();
      lookup = () => ({ status: 201, body: 'old' });
      const key = randomUUID();
      expect((await post(`${app.url}/orders`, key)).text).toBe('old');
      expect((await post(`${app.url}/orders`, key, 'another')).status).toBe(422);
      lookup = () => 'fingerprint_mismatch';
      const mismatch = await post(`${app.url}/orders`, randomUUID());
      expect([mismatch.status, typeOf(mismatch)]).toEqual([422, 'fingerprint-mismatch']);
      expect(made.size).toBe(0);
    });

    it('a route in the transaction mode replays it, and commits nothing else', async () => {
      const app = await startNew();
      lookup = () => ({ status: 201, body: { id: 7 } });
      const key = randomUUID();
      for (let time = 0; time < 2; time += 1) {
        const { status, text } = await post(`${app.url}/transactions`, key);
        expect([status, text]).toEqual([201, '{"id":7}']);
      }
      expect([made.size, asked]).toEqual([0, [key]]);
    });

    it('execute() gives its value', async () => {
      const { service } = await startNew();
      const key = randomUUID();
      const legacy = jest.fn(() => ({ value: { id: 7 } }));
      const work = jest.fn(() => ({ id: 8 }));
      for (let time = 0; time < 2; time += 1)
        expect(await service.execute(key, work, { legacy })).toEqual({ id: 7 });
      expect(
        await service.execute(key, work, { legacy, transaction: true, scope: 'in a transaction' }),
      ).toEqual({
        id: 7,
      });
      expect([legacy.mock.calls, work.mock.calls.length]).toEqual([[[key], [key]], 0]);
      expect(await service.execute(randomUUID(), work, { legacy: () => undefined })).toEqual({ id: 8 });
      await expect(
        service.execute(randomUUID(), work, { legacy: () => ({ status: 200 }) as never }),
      ).rejects.toMatchObject({ code: 'store_unavailable' });
      await expect(service.execute(randomUUID(), work, { legacy: 7 as never })).rejects.toThrow(
        /option "legacy" is 7, but must be a function, { lookup, timeout, onError } or false/,
      );
    });
  });

  it('a key that the old system does not know is asked for once, and its handler runs once', async () => {
    const app = await startNew();
    for (const path of ['orders', 'transactions']) {
      const key = randomUUID();
      const [first, second] = [await post(`${app.url}/${path}`, key), await post(`${app.url}/${path}`, key)];
      expect([first.status, isReplay(first)]).toEqual([201, false]);
      expect(comparable(second)).toEqual(comparable(first));
      expect([made.get(key), asked.splice(0)]).toEqual([1, [key]]);
    }
  });

  it('a route may do without', async () => {
    const app = await startNew();
    lookup = () => ({ status: 201, body: 'old' });
    const key = randomUUID();
    expect((await post(`${app.url}/switched-off`, key)).text).not.toBe('old');
    expect([made.get(key), asked]).toEqual([1, []]);
  });

  it('a handler that failed gives its key back, and the next request asks again', async () => {
    const app = await startNew();
    lookup = homeMadeLookup(stores.client);
    const key = randomUUID();
    failing = true;
    expect((await post(`${app.url}/orders`, key)).status).toBe(503);
    failing = false;
    expect((await post(`${app.url}/orders`, key)).status).toBe(201);
    expect([made.get(key), asked]).toEqual([2, [key, key]]);
  });

  describe('with a request that an old instance still runs', () => {
    it('a retry is told to come back, and then gets its response', async () => {
      const old = await startOld();
      lookup = homeMadeLookup(stores.client);
      const app = await startNew();
      const key = randomUUID();
      held = gate();
      const first = post(`${old.url}/orders`, key);
      await held.reached();
      const early = await post(`${app.url}/orders`, key);
      expect([early.status, typeOf(early)]).toEqual([409, 'in-flight']);
      expect(Number(early.headers['retry-after'])).toBeGreaterThan(0);
      held.open();
      const { text } = await first;
      expect((await post(`${app.url}/orders`, key)).text).toBe(text);
      expect(made.get(key)).toBe(1);
    });
  });

  it('while old and new instances run side by side, no retry runs again, on whichever it lands', async () => {
    const [old, another] = [await startOld(), await startOld()];
    lookup = homeMadeLookup(stores.client);
    const urls = [old.url, (await startNew('5s')).url, another.url, (await startNew('5s')).url];
    const keys = Array.from({ length: 40 }, () => randomUUID());
    const bodies = await Promise.all(
      keys.map(async (key, index) => {
        const seen = new Set<string>();
        // Two at once, then retries, each on the next instance.
        const send = async (instance: number): Promise<void> => {
          const { status, text } = await post(`${urls[(index + instance) % urls.length]!}/orders`, key);
          if (status < 300) seen.add(text);
          else expect(status).toBe(409);
        };
        await Promise.all([send(0), send(1)]);
        for (let instance = 2; instance < 8; instance += 1) await send(instance);
        return [...seen];
      }),
    );
    expect(bodies.filter((each) => each.length !== 1)).toEqual([]);
    expect([...made.values()].filter((times) => times !== 1)).toEqual([]);
    expect(made.size).toBe(keys.length);
  });

  describe('with an old system that fails', () => {
    let broken: RunningRedis;
    let client: Redis;
    beforeAll(async () => {
      broken = await startRedis();
      client = new Redis(broken.url);
      client.on('error', () => undefined);
    });
    afterAll(async () => {
      client.disconnect();
      await broken.stop();
    });

    it('that is frozen, a request gets 503 in time and nothing runs, until it answers', async () => {
      const app = await startNew();
      const key = randomUUID();
      await client.set(`idem:/orders:${key}`, JSON.stringify({ status: 201, body: 'old' }));
      lookup = homeMadeLookup(client);
      broken.kill('SIGSTOP');
      for (const path of ['orders', 'transactions']) {
        const refused = await post(`${app.url}/${path}`, key);
        expect([refused.status, typeOf(refused)]).toEqual([503, 'store-unavailable']);
        expect(refused.headers['retry-after']).toBe('5');
      }
      broken.kill('SIGCONT');
      expect((await eventually(() => post(`${app.url}/orders`, key))).text).toBe('old');
      expect(made.size).toBe(0);
    });

    it('a handler runs where that is allowed, and once', async () => {
      const app = await startNew();
      lookup = () => Promise.reject(new Error('gone'));
      const key = randomUUID();
      const [first, second] = [await post(`${app.url}/eager`, key), await post(`${app.url}/eager`, key)];
      expect([first.status, second.text, made.get(key)]).toEqual([201, first.text, 1]);
    });

    it.each<[string, unknown]>([
      ['text', 'OK'],
      ['no status', { statusCode: 201, body: {} }],
      ['a status that is none', { status: 7 }],
      ['a header that splits the response', { status: 200, headers: { a: 'b\r\nc: d' } }],
    ])(
      'nothing runs on an answer that cannot be replayed, even where lookups may fail: %s',
      async (_, answer) => {
        const app = await startNew();
        lookup = () => answer as never;
        const refused = await post(`${app.url}/eager`, randomUUID());
        expect([refused.status, typeOf(refused), made.size]).toEqual([503, 'store-unavailable', 0]);
      },
    );

    it('a lookup through the DataSource that fails leaves the transaction of its request as it was', async () => {
      const app = await startNew();
      const dataSource = app.app.get<DataSource>(getDataSourceToken());
      lookup = () => dataSource.query('SELECT * FROM no_such_table');
      expect((await post(`${app.url}/transactions`, randomUUID())).status).toBe(503);
      lookup = async () => {
        await dataSource.query('SELECT * FROM no_such_table').catch(() => undefined);
        return undefined;
      };
      expect((await post(`${app.url}/transactions`, randomUUID())).status).toBe(201);
    });

    it('a handler does not begin under a lease that lapsed while the old system was asked', async () => {
      const app = await startNew();
      const key = randomUUID();
      lookup = () => {
        const until = performance.now() + 1_050; // as a process is that is frozen for longer than the lease
        while (performance.now() < until);
        return undefined;
      };
      const refused = await post(`${app.url}/attempts`, key);
      expect([refused.status, typeOf(refused)]).toEqual([503, 'store-unavailable']);
      lookup = () => undefined;
      expect((await post(`${app.url}/attempts`, key)).text).toBe('1');
    });

    it('an orphan stays one: the request that runs at last is told that it is a later attempt', async () => {
      const app = await startNew();
      const key = randomUUID();
      expect((await post(`${app.url}/attempts`, key)).text).toBe('1');
      await eventually(async () => expect(await stores.client.keys(REDIS_RECORDS)).toHaveLength(1));
      // As a process leaves it that is killed while its handler runs.
      const dataSource = app.app.get<DataSource>(getDataSourceToken());
      await dataSource.query(
        `UPDATE idempotency_cache SET state = 'in_progress', status = NULL, headers = NULL, body = NULL,
           completed_at = NULL, lease_until = now() - interval '1 second' WHERE key = $1`,
        [key],
      );
      await stores.client.flushall();
      lookup = () => Promise.reject(new Error('gone'));
      expect((await post(`${app.url}/attempts`, key)).status).toBe(503);
      lookup = () => undefined;
      expect(Number((await post(`${app.url}/attempts`, key)).text)).toBeGreaterThan(1);
    });
  });

  it('while Postgres is away, a route that may run unprotected asks as well', async () => {
    const app = await startNew();
    const key = randomUUID();
    lookup = () => ({ status: 201, body: 'old' });
    stores.postgres.kill('SIGSTOP');
    try {
      const answer = await post(`${app.url}/unprotected`, key);
      expect([answer.status, answer.text, isReplay(answer)]).toEqual([201, 'old', true]);
      lookup = () => undefined;
      expect((await post(`${app.url}/unprotected`, randomUUID())).status).toBe(200);
      lookup = () => 'in_flight';
      expect((await post(`${app.url}/unprotected`, randomUUID())).status).toBe(409);
    } finally {
      stores.postgres.kill('SIGCONT');
    }
    expect([made.get(key), made.size]).toEqual([undefined, 1]);
  });

  describe('the lookups of docs/guide/migrating.md find what these have stored', () => {
    const body = { name: 'a' };
    const send = async (app: TestApp, key: string): Promise<object> => {
      const { status, text, headers } = await call(`${app.url}/orders?x=1`, {
        headers: { 'idempotency-key': key },
        body,
      });
      return { status, text, type: headers['content-type'] };
    };

    it('as the page shows them', () => {
      const page = readFileSync(join(__dirname, '../../docs/guide/migrating.md'), 'utf8');
      const shown = [...page.matchAll(/<!-- (\S+\.lookup\.ts) -->\n\n```ts\n(.*?)```/gs)];
      expect(shown.length).toBe(4);
      for (const [, file = '', code] of shown)
        expect(code).toBe(readFileSync(join(__dirname, '../..', file), 'utf8'));
    });

    it('@node-idempotency/nestjs', async () => {
      const app = await startNew();
      const client = stores.client;
      lookup = nodeIdempotencyLookup({ get: async (key) => (await client.get(key)) ?? undefined });
      const fingerPrint = createHash('blake2s256').update(JSON.stringify(body)).digest('hex');
      const keep = async (value: object, key: string = randomUUID()): Promise<string> => {
        const text = JSON.stringify({ status: 'COMPLETE', fingerPrint, ...value });
        await client.set(`node-idempotency:POST:/orders?x=1:${key}`, text);
        return key;
      };
      const done = await keep({ response: { additional: { statusCode: 201 }, body: { id: 7 } } });
      expect(await send(app, done)).toEqual({
        status: 201,
        text: '{"id":7}',
        type: 'application/json; charset=utf-8',
      });
      const error = {
        response: { statusCode: 404, message: 'no such' },
        status: 404,
        name: 'NotFoundException',
      };
      const refused = await keep({ response: { additional: { statusCode: 404 }, error } });
      expect(await send(app, refused)).toMatchObject({
        status: 404,
        text: '{"statusCode":404,"message":"no such"}',
      });
      const plain = { response: 'no such', status: 404, message: 'no such' };
      const refusedPlainly = await keep({ response: { additional: { statusCode: 404 }, error: plain } });
      expect(await send(app, refusedPlainly)).toMatchObject({
        status: 404,
        text: '{"statusCode":404,"message":"no such"}',
      });
      const quoted = await keep({ response: { body: { id: 8 } } }, `"${randomUUID()}"`);
      expect(await send(app, quoted)).toMatchObject({ status: 200, text: '{"id":8}' });
      expect(await send(app, await keep({ status: 'IN_PROGRESS' }))).toMatchObject({ status: 409 });
      expect(await send(app, await keep({ fingerPrint: 'other' }))).toMatchObject({ status: 422 });
      expect(made.size).toBe(0);
      expect(
        await send(app, await keep({ response: { additional: { statusCode: 500 }, error: {} } })),
      ).toMatchObject({ status: 201 });
      expect(await send(app, randomUUID())).toMatchObject({ status: 201 });
      expect(made.get('a')).toBe(2);
    });

    it('@nestarc/idempotency', async () => {
      const app = await startNew();
      const kept = new Map<string, Awaited<ReturnType<Parameters<typeof nestarcLookup>[0]['get']>>>();
      lookup = nestarcLookup({ get: async (key) => kept.get(key) ?? null });
      const keep = (value: object, key: string = randomUUID()): string => {
        kept.set(`POST /orders::${key}`, { status: 'COMPLETED', ...value });
        return key;
      };
      const done = keep({ statusCode: 201, responseBody: '{"id":7}', responseHeaders: { location: '/7' } });
      expect(await send(app, done)).toEqual({
        status: 201,
        text: '{"id":7}',
        type: 'application/json; charset=utf-8',
      });
      const quoted = keep({ responseBody: '{"id":8}' }, `"${randomUUID()}"`);
      expect(await send(app, quoted)).toMatchObject({ status: 200, text: '{"id":8}' });
      expect(await send(app, keep({ status: 'PROCESSING' }))).toMatchObject({ status: 409 });
      expect(made.size).toBe(0);
      expect(await send(app, randomUUID())).toMatchObject({ status: 201 });
    });

    it('a home-made interceptor, also under a key in quotes', async () => {
      const app = await startNew();
      lookup = homeMadeLookup(stores.client);
      for (const key of [randomUUID(), `"${randomUUID()}"`]) {
        await stores.client.set(`idem:/orders?x=1:${key}`, '{"status":201,"body":{"id":7}}');
        expect(await send(app, key)).toMatchObject({ status: 201, text: '{"id":7}' });
      }
      expect(made.size).toBe(0);
    });

    it('a middleware that asks Redis, else a database', async () => {
      const app = await startNew();
      const dataSource = app.app.get<DataSource>(getDataSourceToken());
      await dataSource.query('CREATE TABLE IF NOT EXISTS naive (key text PRIMARY KEY, response text)');
      lookup = redisElseDatabaseLookup(app.app.get<Redis>(getRedisConnectionToken()), dataSource);
      const [inRedis, inDatabase, quoted] = [randomUUID(), randomUUID(), `"${randomUUID()}"`];
      await stores.client.set(`naive:${inRedis}`, '{"id":7}');
      await dataSource.query('INSERT INTO naive VALUES ($1, $2)', [inDatabase, '{"id":8}']);
      await stores.client.set(`naive:${quoted}`, '{"id":9}');
      expect(await send(app, inRedis)).toMatchObject({ status: 201, text: '{"id":7}' });
      expect(await send(app, inDatabase)).toMatchObject({ status: 201, text: '{"id":8}' });
      expect(await send(app, quoted)).toMatchObject({ status: 201, text: '{"id":9}' });
      expect(made.size).toBe(0);
      expect(await send(app, randomUUID())).toMatchObject({ status: 201 });
    });
  });
});
