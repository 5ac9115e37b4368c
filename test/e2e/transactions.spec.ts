import { randomUUID } from 'node:crypto';
import {
  Body,
  ConflictException,
  Controller,
  HttpException,
  Inject,
  Post,
  Res,
  StreamableFile,
  UseInterceptors,
  RequestTimeoutException,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { Readable } from 'node:stream';
import { catchError, Observable, of, throwError, timeout, TimeoutError } from 'rxjs';
import { DataSource } from 'typeorm';
import { Idempotent, IdempotencyClaim, type TransactionContext } from '../../lib';
import type { RunningPostgres, RunningRedis } from '../../servers';
import { startApp, type Platform, type TestApp } from '../support/app';
import { appOnServers } from '../support/app-on-servers';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import { gate, type Gate } from '../support/gate';
import { isReplay, type Answer } from '../support/http';
import { metric } from '../support/metrics';

interface Pool {
  readonly totalCount: number;
  readonly idleCount: number;
}

interface Order {
  readonly key?: string;
  readonly do?: string;
}

let runs = 0;
let passing: Gate | undefined;
/** Milliseconds that {@link Impatient} waits. */
let patience = 50;
/** Runs whose handler has ended, where it says so. */
let ended: number[] = [];

class Impatient implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(
      timeout(patience),
      catchError((error: unknown) =>
        throwError(() => (error instanceof TimeoutError ? new RequestTimeoutException() : error)),
      ),
    );
  }
}

class Forgiving implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(catchError(() => of({ forgiven: true })));
  }
}

@Controller()
class OrdersController {
  constructor(@Inject(DataSource) private readonly dataSource: DataSource) {}

  private write(note: string): Promise<unknown> {
    return this.dataSource.query('INSERT INTO effect (note) VALUES ($1)', [note]);
  }

  @Post('orders')
  @Idempotent({ transaction: true })
  async create(@Body() { key = '', do: what }: Order): Promise<unknown> {
    const run = ++runs;
    await this.write(key);
    await passing?.pass();
    switch (what) {
      case 'fail':
        throw new Error('broken');
      case 'throw 409':
        throw new ConflictException('taken');
      case 'throw 429':
        throw new HttpException('slow down', 429);
      case 'swallow':
        await this.dataSource.query('SELECT 1 / 0').catch(() => undefined);
        break;
      case 'commit by hand':
        await this.dataSource.query('COMMIT');
        break;
      case 'roll back by hand':
        await this.dataSource.query('ROLLBACK');
        break;
      case 'make read-only':
        await this.dataSource.query('SET TRANSACTION READ ONLY');
        break;
      case 'deferred':
        await this.dataSource.query('INSERT INTO deferred (id) VALUES (1), (1)');
        break;
      case 'other role':
        await this.dataSource.query('SET LOCAL ROLE tenant');
        break;
      case 'other schema':
        await this.dataSource.query('SET LOCAL search_path TO nowhere');
        break;
      case 'large':
        return { run, large: 'x'.repeat(2_000_000) };
      case 'stream':
        return new StreamableFile(Readable.from(this.chunks(key)));
      case undefined:
      default:
    }
    return { run, nonce: randomUUID() };
  }

  private async *chunks(key: string): AsyncGenerator<string> {
    yield 'one ';
    await this.write(key);
    yield 'two';
  }

  @Post('orders/returned')
  @Idempotent({ transaction: true })
  async returned(
    @Body() { key = '' }: Order,
    @Res()
    response: {
      status?: (n: number) => unknown;
      code?: (n: number) => unknown;
      send(body: unknown): unknown;
    },
  ): Promise<void> {
    runs++;
    await this.write(key);
    (response.status?.bind(response) ?? response.code?.bind(response))?.(409);
    response.send({ returned: true });
    await this.write(key);
  }

  @Post('orders/slow')
  @UseInterceptors(Impatient)
  @Idempotent({ transaction: true })
  async slow(@Body() { key = '' }: Order): Promise<unknown> {
    const run = ++runs;
    await this.write(key);
    if (run === 1) await passing?.pass();
    await this.write(key);
    return { run };
  }

  @Post('orders/bounded')
  @Idempotent({ transaction: { timeout: 1_000 } })
  async bounded(@Body() { key = '' }: Order): Promise<unknown> {
    const run = ++runs;
    try {
      await this.write(key);
      if (run === 1) await passing?.pass();
      await this.write(key);
      return { run };
    } finally {
      ended.push(run);
    }
  }

  @Post('orders/forgiven')
  @UseInterceptors(Forgiving)
  @Idempotent({ transaction: true })
  async forgiven(@Body() { key = '' }: Order): Promise<unknown> {
    runs++;
    await this.write(key);
    throw new Error('forgiven');
  }

  @Post('orders/explicit')
  @Idempotent({ transaction: { isolation: 'SERIALIZABLE' } })
  async explicit(
    @Body() { key = '' }: Order,
    @IdempotencyClaim() claim: TransactionContext,
  ): Promise<unknown> {
    const [row] = await claim.manager.query<{ level: string }[]>(
      `SELECT current_setting('transaction_isolation') AS level`,
    );
    await claim.manager.query('INSERT INTO effect (note) VALUES ($1)', [key]);
    await claim.outside(() => this.write(`${key} outside`));
    runs++;
    if (runs === 1) throw new Error('again');
    return { ...row, attempt: claim.attempt, key: claim.key };
  }
}

describe.each<Platform>(['express', 'fastify'])('the transaction mode on %s', (platform) => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let app: TestApp;
  let key: string;

  const servers = appOnServers({ platform, controllers: [OrdersController] });
  beforeAll(async () => {
    ({ app, postgres, redis } = servers);
    await sql(postgres.url, 'CREATE TABLE effect (note text)');
    await sql(postgres.url, 'CREATE TABLE deferred (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)');
    await sql(postgres.url, 'CREATE ROLE tenant');
    await sql(postgres.url, 'GRANT tenant TO CURRENT_USER');
  });
  beforeEach(() => {
    runs = 0;
    ended = [];
    passing = undefined;
    patience = 50;
    key = randomUUID();
  });

  const post = (what?: string, path = 'orders'): Promise<Answer> =>
    app.call(`/${path}`, { headers: { 'Idempotency-Key': key }, body: { key, do: what } });
  const effects = async (): Promise<number> =>
    (await sql(postgres.url, 'SELECT 1 FROM effect WHERE note = $1', [key])).length;

  it('commits the effect together with the response that every retry gets', async () => {
    const first = await post();
    const retry = await post();
    expect([first.status, retry.status, retry.text, isReplay(retry)]).toEqual([201, 201, first.text, true]);
    expect([runs, await effects()]).toEqual([1, 1]);
  });

  it('runs the handler once for many duplicates at a time', async () => {
    const answers = await Promise.all(Array.from({ length: 20 }, () => post()));
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
    expect([runs, await effects()]).toEqual([1, 1]);
  });

  it('rolls back what is not recorded, and runs again', async () => {
    expect((await post('fail')).status).toBe(500);
    expect(await effects()).toBe(0);
    key = randomUUID();
    expect((await post('throw 429')).status).toBe(429);
    expect((await post('throw 429')).status).toBe(429);
    expect([runs, await effects()]).toEqual([3, 0]);
  });

  it('rolls back what was thrown, and records it', async () => {
    const first = await post('throw 409');
    const retry = await post('throw 409');
    expect([first.status, retry.text, isReplay(retry)]).toEqual([409, first.text, true]);
    expect([runs, await effects()]).toEqual([1, 0]);
  });

  it('commits what was returned, whatever its status, once the handler has ended', async () => {
    const first = await post(undefined, 'orders/returned');
    const retry = await post(undefined, 'orders/returned');
    expect([first.status, retry.text, isReplay(retry)]).toEqual([409, first.text, true]);
    expect([runs, await effects()]).toEqual([1, 2]);
    key = randomUUID();
    expect((await post(undefined, 'orders/forgiven')).text).toBe('{"forgiven":true}');
    expect(await effects()).toBe(1);
  });

  it.each(['swallow', 'commit by hand', 'roll back by hand', 'deferred', 'make read-only'])(
    'records nothing if the handler spoils its transaction: %s',
    async (what) => {
      expect((await post(what)).status).toBe(500);
      expect((await post(what)).status).toBe(500);
      expect(runs).toBe(2);
      expect(await effects()).toBe(0);
    },
  );

  it.each(['other role', 'other schema'])('commits although the handler has taken on: %s', async (what) => {
    const first = await post(what);
    expect([first.status, (await post(what)).text, await effects()]).toEqual([201, first.text, 1]);
  });

  it('commits the effect of a response that is too large to be recorded', async () => {
    expect((await post('large')).status).toBe(201);
    expect((await post('large')).status).toBe(409);
    expect([runs, await effects()]).toEqual([1, 1]);
  });

  it('ends the transaction after the stream that the handler has returned', async () => {
    const first = await post('stream');
    const retry = await post('stream');
    expect([first.text, retry.text, isReplay(retry)]).toEqual(['one two', 'one two', true]);
    expect([runs, await effects()]).toEqual([1, 2]);
  });

  it('rolls back once the handler has ended that a time-out has answered for', async () => {
    passing = gate();
    expect((await post(undefined, 'orders/slow')).status).toBe(408);
    patience = 60_000;
    const retry = post(undefined, 'orders/slow');
    passing.open();
    expect((await retry).text).toBe('{"run":2}');
    expect([runs, await effects()]).toEqual([2, 2]);
  });

  it('rolls back a handler that takes too long, without waiting for it', async () => {
    passing = gate();
    const late = await post(undefined, 'orders/bounded');
    expect([
      late.status,
      (JSON.parse(late.text) as { type: string }).type,
      late.headers['retry-after'],
    ]).toEqual([503, 'urn:problem-type:nestjs-idempotency:transaction-timeout', '5']);
    expect((await post(undefined, 'orders/bounded')).text).toBe('{"run":2}');
    passing.open();
    await eventually(() => expect(ended).toEqual([2, 1]));
    expect([runs, await effects()]).toEqual([2, 2]);
  });

  it('commits what a client that has left will ask for again', async () => {
    passing = gate();
    const leaving = new AbortController();
    const first = app.call('/orders', {
      headers: { 'Idempotency-Key': key },
      body: { key },
      signal: leaving.signal,
    });
    await passing.reached();
    leaving.abort();
    await first.catch(() => undefined);
    passing.open();
    passing = undefined;
    await eventually(async () => expect(await effects()).toBe(1));
    expect([isReplay(await post()), runs]).toEqual([true, 1]);
  });

  it('gives the handler its manager, its isolation level and a way out', async () => {
    expect((await post(undefined, 'orders/explicit')).status).toBe(500);
    expect(JSON.parse((await post(undefined, 'orders/explicit')).text)).toEqual({
      level: 'serializable',
      attempt: 1,
      key,
    });
    expect(await effects()).toBe(1);
    expect(await sql(postgres.url, 'SELECT FROM effect WHERE note = $1', [`${key} outside`])).toHaveLength(2);
  });

  it('runs work that is no HTTP request', async () => {
    const dataSource = app.app.get(DataSource);
    const work = async ({ manager }: TransactionContext): Promise<number> => {
      await manager.query('INSERT INTO effect (note) VALUES ($1)', [key]);
      await dataSource.query('INSERT INTO effect (note) VALUES ($1)', [key]);
      return ++runs;
    };
    const values = await Promise.all([1, 2].map(() => app.service.execute(key, work, { transaction: true })));
    expect([values, await effects()]).toEqual([[1, 1], 2]);
  });

  describe('over several processes', () => {
    let other: TestApp;

    beforeAll(async () => {
      other = await startApp({
        platform,
        databaseUrl: postgres.url,
        redisUrl: redis.url,
        controllers: [OrdersController],
      });
    });
    afterAll(() => other.close());

    const elsewhere = (): Promise<Answer> =>
      other.call('/orders', { headers: { 'Idempotency-Key': key }, body: { key } });
    const open = (): Promise<unknown[]> =>
      sql(postgres.url, `SELECT FROM pg_stat_activity WHERE state = 'idle in transaction'`);

    it('gives duplicates the first response, and has them hold no connection while they wait', async () => {
      passing = gate();
      const first = post();
      await passing.reached();
      const duplicates = Array.from({ length: 30 }, elsewhere);
      await eventually(async () => expect(await metric('idempotency_waiting_requests')).toBe(30));
      expect(await open()).toHaveLength(1);
      const { master } = other.app.get(DataSource).driver as unknown as { master: Pool };
      await eventually(() => expect(master.idleCount).toBe(master.totalCount));
      passing.open();
      const { text } = await first;
      for (const answer of await Promise.all(duplicates))
        expect([answer.text, isReplay(answer)]).toEqual([text, true]);
      expect([runs, await effects()]).toEqual([1, 1]);
    });

    it('has a duplicate run the handler where the first was rolled back', async () => {
      passing = gate();
      const first = post('fail');
      await passing.reached();
      passing.open();
      passing = undefined;
      expect((await first).status).toBe(500);
      expect((await elsewhere()).status).toBe(201);
      expect([runs, await effects()]).toEqual([2, 1]);
    });

    it('refuses duplicates at once that do not wait', async () => {
      passing = gate();
      const work = async ({ manager }: TransactionContext): Promise<void> => {
        await manager.query('SELECT 1');
        await passing?.pass();
      };
      const options = { transaction: true, inFlight: 'reject' } as const;
      const first = app.service.execute(key, work, options);
      await passing.reached();
      for (const each of [app, other])
        await expect(each.service.execute(key, work, options)).rejects.toMatchObject({ code: 'in_flight' });
      passing.open();
      await first;
    });

    it('keeps effects and outcomes together while a route changes its mode', async () => {
      const leased = async (): Promise<number> => {
        await app.app.get(DataSource).query('INSERT INTO effect (note) VALUES ($1)', [key]);
        return ++runs;
      };
      const scope = 'changing';
      for (let i = 0; i < 30; i++) {
        key = randomUUID();
        const values = await Promise.all([
          app.service.execute(key, leased, { scope }),
          other.service.execute(
            key,
            ({ outside }) =>
              outside(() => other.app.get(DataSource).query('SELECT 1'))
                .then(() => other.app.get(DataSource).query('INSERT INTO effect (note) VALUES ($1)', [key]))
                .then(() => ++runs),
            { scope, transaction: true },
          ),
        ]);
        expect(values[0]).toBe(values[1]);
        expect(await effects()).toBe(1);
      }
    });
  });

  it('replays what is recorded and refuses what is new while Postgres is away', async () => {
    const first = await post();
    postgres.kill('SIGSTOP');
    try {
      expect((await post()).text).toBe(first.text);
      key = randomUUID();
      expect((await post()).status).toBe(503);
    } finally {
      postgres.kill('SIGCONT');
    }
    await eventually(async () => expect((await post()).status).toBe(201));
    expect(await effects()).toBe(1);
  });

  it('gives all connections back', async () => {
    const { master } = app.app.get(DataSource).driver as unknown as { master: Pool };
    await eventually(() => expect(master.idleCount).toBe(master.totalCount));
    expect(await sql(postgres.url, `SELECT FROM pg_locks WHERE locktype = 'advisory'`)).toEqual([]);
  });
});
