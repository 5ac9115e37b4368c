import { randomUUID } from 'node:crypto';
import {
  Catch,
  Controller,
  Injectable,
  Post,
  UseFilters,
  UseInterceptors,
  type CallHandler,
  type ExecutionContext,
  type ExceptionFilter,
  type NestInterceptor,
} from '@nestjs/common';
import { map, type Observable } from 'rxjs';
import { Idempotent, IdempotencyException } from '../../lib';
import { IdempotencyMetrics } from '../../lib/observability/metrics';
import { startPostgres, type RunningPostgres } from '../../servers';
import { startApp, type Platform, type TestApp } from '../support/app';
import { isReplay, type Answer } from '../support/http';

let runs = 0;
/** What the hook of the next request does. */
let hook: () => unknown = () => undefined;
let failingHook = '';

const fails = (name: string): unknown => (failingHook === name ? hook() : undefined);
const optionOf = (name: string) => (): never => (fails(name) ?? 'answer') as never;

@Injectable()
class FailingInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    fails('interceptor, before the handler');
    return next.handle().pipe(map((value: unknown) => fails('interceptor, after the handler') ?? value));
  }
}

@Catch(IdempotencyException)
class FailingFilter implements ExceptionFilter {
  catch(exception: IdempotencyException): void {
    fails('filter');
    throw exception;
  }
}

@Controller()
class HooksController {
  @Post('options')
  @UseInterceptors(FailingInterceptor)
  @Idempotent({
    waitTimeout: '1s',
    scope: optionOf('scope'),
    fingerprint: optionOf('fingerprint'),
    record: optionOf('record'),
    replayHeaders: optionOf('replayHeaders'),
  })
  options(): unknown {
    return fails('handler') ?? { run: ++runs };
  }

  @Post('key')
  @Idempotent({ key: optionOf('key') })
  key(): unknown {
    return { run: ++runs };
  }

  @Post('refused')
  @UseFilters(FailingFilter)
  @Idempotent({ required: true })
  refused(): unknown {
    return { run: ++runs };
  }
}

const HOOKS: [hook: string, path: string][] = [
  ['key', '/key'],
  ['scope', '/options'],
  ['fingerprint', '/options'],
  ['record', '/options'],
  ['replayHeaders', '/options'],
  ['interceptor, before the handler', '/options'],
  ['interceptor, after the handler', '/options'],
  ['handler', '/options'],
  ['filter', '/refused'],
];

const throwing = (thrown: unknown) => (): never => {
  throw thrown;
};
const WAYS: [string, () => unknown][] = [
  ['throws an Error', throwing(new Error('failed'))],
  ['throws null', throwing(null)],
  ['throws a frozen object', throwing(Object.freeze({ status: 418 }))],
  ['throws a frozen Error', throwing(Object.freeze(new Error('failed')))],
  ['throws text', throwing('failed')],
  ['rejects', () => Promise.reject(new Error('failed'))],
  ['answers a symbol', () => Symbol('answer')],
  ['answers a proxy that throws', () => new Proxy({}, { get: throwing(new Error('failed')) })],
];

describe.each<Platform>(['express', 'fastify'])('a hook of the application on %s', (platform) => {
  let postgres: RunningPostgres;
  let app: TestApp;
  const escaped: unknown[] = [];
  const record = (reason: unknown): void => void escaped.push(reason);

  beforeAll(async () => {
    postgres = await startPostgres();
    app = await startApp({ platform, databaseUrl: postgres.url, controllers: [HooksController] });
    process.on('unhandledRejection', record);
  });
  afterAll(async () => {
    process.off('unhandledRejection', record);
    await app.close();
    await postgres.stop();
  });
  beforeEach(() => {
    runs = 0;
    failingHook = '';
    escaped.length = 0;
  });
  afterEach(async () => {
    jest.restoreAllMocks();
    await new Promise((resolve) => setImmediate(resolve));
    expect(escaped).toEqual([]);
  });

  const post = (path: string, key?: string): Promise<Answer> =>
    app.call(path, {
      headers: key === undefined ? {} : { 'idempotency-key': key },
      signal: AbortSignal.timeout(8_000),
    });

  describe.each(HOOKS)('%s', (name, path) => {
    // The promise of an interceptor or a filter that no code awaits is the application's own.
    const awaited = !/interceptor|filter/.test(name);

    it.each(WAYS.filter(([way]) => awaited || way !== 'rejects'))(
      'that %s ends in an answer, and its retry as well',
      async (_, way) => {
        failingHook = name;
        hook = way;
        const key = path === '/refused' ? undefined : randomUUID();
        const [first, retry] = [await post(path, key), await post(path, key)];
        expect(first.status).toBeGreaterThanOrEqual(200);
        expect(retry.status).toBeGreaterThanOrEqual(200);
        failingHook = '';
        expect((await post('/options', randomUUID())).status).toBe(201);
      },
    );
  });

  it('that logs, and throws, changes no answer', async () => {
    const logger = throwing(new Error('the logger failed'));
    const other = await startApp({
      platform,
      databaseUrl: postgres.url,
      controllers: [HooksController],
      configure: (nest) =>
        nest.useLogger({ log: () => undefined, error: logger, warn: logger, debug: logger, verbose: logger }),
    });
    try {
      failingHook = 'replayHeaders';
      hook = throwing(new Error('failed'));
      const call = { headers: { 'idempotency-key': randomUUID() } };
      expect((await other.call('/options', call)).status).toBe(201);
      expect((await other.call('/options', call)).status).toBe(409);
      failingHook = 'record';
      const again = { headers: { 'idempotency-key': randomUUID() } };
      expect((await other.call('/options', again)).status).toBe(201);
      expect(isReplay(await other.call('/options', again))).toBe(true);
      expect(runs).toBe(2);
    } finally {
      await other.close();
    }
  });

  it.each(['ended', 'firstRequest', 'claimed'] as const)(
    'that counts, and throws, ends in an answer: %s',
    async (method) => {
      const key = randomUUID();
      jest.spyOn(IdempotencyMetrics.prototype, method).mockImplementation(throwing(new Error('failed')));
      for (let time = 0; time < 2; time++)
        expect([201, 409, 500]).toContain((await post('/options', key)).status);
      expect((await post('/refused')).status).toBeGreaterThanOrEqual(400);
      expect(runs).toBeLessThanOrEqual(1);
    },
  );
});
