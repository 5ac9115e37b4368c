import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { Controller, Module, Post, type INestApplication } from '@nestjs/common';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { IdempotencyClaim, IdempotencyModule, Idempotent, type TransactionContext } from 'nestjs-idempotency';
import { IdempotencyTesting } from 'nestjs-idempotency/testing';
import { gate, type Gate } from '../support/gate';
import { call, comparable, isReplay, type Answer } from '../support/http';

let runs = 0;
let held: Gate | undefined;

@Controller()
class LeadsController {
  @Post('leads')
  @Idempotent({ waitTimeout: 0 })
  create(): number {
    return ++runs;
  }

  @Post('joint')
  @Idempotent({ transaction: true, waitTimeout: 0 })
  async joint(@IdempotencyClaim() claim?: TransactionContext): Promise<number> {
    const run = ++runs;
    claim?.outside(() => undefined);
    await held?.pass();
    return run;
  }

  @Post('late')
  @Idempotent({ transaction: { timeout: 50 } })
  async late(@IdempotencyClaim() { signal }: TransactionContext): Promise<number> {
    await once(signal, 'abort');
    return ++runs;
  }

  @Post('manager')
  @Idempotent({ transaction: true })
  manager(@IdempotencyClaim() { manager }: TransactionContext): string {
    return manager.constructor.name;
  }

  @Post('once')
  @Idempotent({ onOrphan: 'reject' })
  once(): number {
    return ++runs;
  }
}

/** As applications have it: it needs Redis and Postgres, and here there are none. */
@Module({ imports: [IdempotencyModule.forRoot()], controllers: [LeadsController] })
class AppModule {}

@Module({
  imports: [IdempotencyModule.forRootAsync({ useFactory: () => ({ redis: { ttl: '1h' } }) })],
  controllers: [LeadsController],
})
class AsyncAppModule {}

describe.each([
  ['forRoot', AppModule],
  ['forRootAsync', AsyncAppModule],
])('an application with %s, tested without Redis and Postgres', (_, module) => {
  describe.each(['express', 'fastify'])('on %s', (platform) => {
    let app: INestApplication;
    let testing: IdempotencyTesting;

    beforeAll(async () => {
      const built = await IdempotencyTesting.replaceIn(
        Test.createTestingModule({ imports: [module] }),
      ).compile();
      app =
        platform === 'fastify'
          ? built.createNestApplication(new FastifyAdapter(), { logger: false })
          : built.createNestApplication({ logger: false });
      await app.listen(0, '127.0.0.1');
      testing = IdempotencyTesting.of(app);
    });
    afterAll(() => app.close());
    beforeEach(() => {
      runs = 0;
      held = undefined;
      testing.reset();
    });

    const send = async (key: string, path = '/leads'): Promise<Answer> =>
      call((await app.getUrl()) + path, { headers: { 'idempotency-key': key } });

    it('replays a retry byte for byte, and shows the record', async () => {
      const key = randomUUID();
      const [first, retry] = [await send(key), await send(key)];
      expect([first.status, isReplay(first), isReplay(retry), runs]).toEqual([201, false, true, 1]);
      expect(comparable(retry)).toEqual(comparable(first));
      expect(testing.records()).toMatchObject([
        { id: { key }, state: 'completed', outcome: { status: 201 } },
      ]);
    });

    it('forgets all records when it is reset', async () => {
      const key = randomUUID();
      await send(key);
      testing.reset();
      expect(testing.records()).toEqual([]);
      expect((await send(key)).text).toBe('2');
    });

    it('lets records expire when the clock is put forward', async () => {
      const key = randomUUID();
      await send(key);
      testing.clock.advance('29d');
      expect(isReplay(await send(key))).toBe(true);
      testing.clock.advance('2d');
      expect((await send(key)).text).toBe('2');
    });

    it('has a request in flight elsewhere until its lease lapses', async () => {
      const key = randomUUID();
      testing.next('in flight');
      const refused = await send(key);
      expect([refused.status, runs]).toEqual([409, 0]);
      testing.clock.advance('30s');
      expect((await send(key)).status).toBe(201);
      expect(testing.records()).toMatchObject([{ attempt: 2 }]);
    });

    it('loses the reply to what it has recorded: the retry gets the response', async () => {
      const key = randomUUID();
      testing.next('reply lost');
      expect((await send(key)).status).toBe(503);
      const retry = await send(key);
      expect([retry.status, isReplay(retry), runs]).toEqual([201, true, 1]);
    });

    it.each([
      ['/leads', 201, 2],
      ['/once', 409, 1],
    ])('has an owner crash after its handler has run: a retry of %s gets %i', async (path, status, times) => {
      const key = randomUUID();
      testing.next('owner crashed');
      expect((await send(key, path)).status).toBe(503);
      expect((await send(key, path)).status).toBe(status);
      expect(runs).toBe(times);
    });

    it('takes the store down until it is healed', async () => {
      testing.storeDown();
      const refused = await send(randomUUID());
      expect([refused.status, refused.headers['retry-after'], runs]).toEqual([503, '5', 0]);
      testing.heal();
      expect((await send(randomUUID())).status).toBe(201);
    });

    it('tells under which claims handlers have run', async () => {
      const key = randomUUID();
      testing.next('owner crashed');
      await send(key);
      await send(key);
      await send(key);
      expect(testing.claims()).toMatchObject([
        { id: { key }, attempt: 1 },
        { id: { key }, attempt: 2 },
      ]);
      testing.reset();
      expect(testing.claims()).toEqual([]);
    });

    describe('with a route in the transaction mode', () => {
      it('replays, and refuses duplicates while the key is locked', async () => {
        const key = randomUUID();
        const { reached, open } = (held = gate());
        const first = send(key, '/joint');
        await reached();
        const others = await Promise.all([send(key, '/joint'), send(key, '/joint')]);
        open();
        expect(others.map(({ status }) => status)).toEqual([409, 409]);
        expect((await first).status).toBe(201);
        const retry = await send(key, '/joint');
        expect([retry.status, isReplay(retry), runs]).toEqual([201, true, 1]);
        expect(testing.records()).toMatchObject([{ id: { key }, state: 'completed', attempt: 1 }]);
      });

      it('leaves nothing of a handler that takes too long', async () => {
        const key = randomUUID();
        const late = await send(key, '/late');
        expect([late.status, late.text]).toEqual([503, expect.stringContaining('transaction-timeout')]);
        expect(testing.records()).toEqual([]);
      });

      it('leaves nothing of an owner that crashed: its handler did not run, and a retry is attempt 1', async () => {
        const key = randomUUID();
        testing.next('owner crashed');
        const crashed = await send(key, '/joint');
        expect([crashed.status, runs, testing.records()]).toEqual([503, 0, []]);
        expect((await send(key, '/joint')).status).toBe(201);
        expect(testing.records()).toMatchObject([{ attempt: 1 }]);
      });

      it('gives the response of one whose reply was lost', async () => {
        const key = randomUUID();
        testing.next('reply lost');
        const lost = await send(key, '/joint');
        expect([lost.status, lost.text]).toEqual([503, expect.stringContaining('outcome-not-recorded')]);
        const retry = await send(key, '/joint');
        expect([retry.status, isReplay(retry), runs]).toEqual([201, true, 1]);
      });

      it('takes over what another process has left under a lease', async () => {
        const key = randomUUID();
        testing.next('in flight');
        expect([(await send(key, '/joint')).status, runs]).toEqual([409, 0]);
        testing.clock.advance('30s');
        expect((await send(key, '/joint')).status).toBe(201);
        expect(testing.records()).toMatchObject([{ attempt: 2 }]);
      });

      it('refuses new keys while the store is down, and leaves no lock', async () => {
        const key = randomUUID();
        testing.storeDown();
        expect([(await send(key, '/joint')).status, runs]).toEqual([503, 0]);
        testing.heal();
        expect((await send(key, '/joint')).status).toBe(201);
      });

      it('fails a handler that asks for the manager of a DataSource that is not there', async () => {
        expect((await send(randomUUID(), '/manager')).status).toBe(500);
      });
    });
  });
});

describe('records in memory', () => {
  const runners = ['NODE_ENV', 'JEST_WORKER_ID', 'VITEST', 'NODE_TEST_CONTEXT'];
  const before = Object.fromEntries(runners.map((name) => [name, process.env[name] ?? '']));
  afterEach(() => void Object.assign(process.env, before));

  it.each(['', 'development', 'production'])('are refused outside of tests: NODE_ENV=%s', (environment) => {
    Object.assign(process.env, Object.fromEntries(runners.map((name) => [name, ''])), {
      NODE_ENV: environment,
    });
    expect(() => IdempotencyTesting.replaceIn(Test.createTestingModule({}))).toThrow(
      /for tests, and this is not a test.*`store: 'memory'`/,
    );
  });

  it('are looked for in vain in an application with its own stores', async () => {
    const app = await Test.createTestingModule({
      imports: [IdempotencyModule.forRoot({ store: 'memory' })],
    }).compile();
    expect(() => IdempotencyTesting.of(app)).toThrow(/IdempotencyTesting\.replaceIn\(\)/);
  });
});
