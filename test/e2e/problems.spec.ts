import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib';
import {
  Body,
  Catch,
  Controller,
  Get,
  Head,
  Header,
  Inject,
  Post,
  UseFilters,
  type ArgumentsHost,
  type ExceptionFilter,
  type INestApplication,
  type Type,
} from '@nestjs/common';
import { APP_FILTER, BaseExceptionFilter, HttpAdapterHost } from '@nestjs/core';
import type { FastifyInstance } from 'fastify';
import { DataSource } from 'typeorm';
import {
  Idempotent,
  IdempotencyError,
  IdempotencyException,
  type IdempotencyErrorCode,
  type IdempotencyOptions,
  type Problem,
} from '../../lib';
import { recordId } from '../../lib/core/record';
import { TieredStoreService } from '../../lib/store/tiered-store.service';
import { type RunningPostgres, type RunningRedis } from '../../servers';
import { startApp, type Platform, type TestApp, type TestAppOptions } from '../support/app';
import { appOnServers } from '../support/app-on-servers';
import { eventually } from '../support/eventually';
import { gate, type Gate } from '../support/gate';
import { isReplay, type Answer, type Call } from '../support/http';
import { metric } from '../support/metrics';

const MODULE_DOCS = 'https://api.example.com/docs';
const CLASS_DOCS = 'https://api.example.com/docs/class';
const METHOD_DOCS = 'https://api.example.com/docs/method';
const linkTo = (url: string): string => `<${url}>; rel="describedby"; type="text/html"`;

let held: Gate | undefined;
let runs = 0;

@Controller()
class ProblemController {
  @Post('required')
  @Idempotent({ required: true })
  required(@Body() body: unknown): unknown {
    return { body, run: ++runs };
  }

  @Post('held')
  @Idempotent({ inFlight: 'reject', required: true })
  async held(): Promise<number> {
    runs += 1;
    await held?.pass();
    return runs;
  }

  @Post('once')
  @Idempotent({ onOrphan: 'reject' })
  once(): number {
    return ++runs;
  }

  @Post('tiny')
  @Idempotent({ maxBodySize: 1 })
  tiny(): string {
    return `run ${++runs}`;
  }

  @Post('alone')
  @Idempotent({ maxWaiters: 0 })
  async alone(): Promise<number> {
    await held?.pass();
    return ++runs;
  }

  @Post('of-another-type')
  @Header('Content-Type', 'text/csv')
  @Header('Content-Disposition', 'attachment')
  @Idempotent({ inFlight: 'reject', required: true })
  async ofAnotherType(): Promise<string> {
    runs += 1;
    await held?.pass();
    return 'a,b';
  }

  @Get('safe')
  @Idempotent({ required: true })
  safe(): number {
    return ++runs;
  }

  @Head('head')
  @Idempotent({ required: true })
  head(): void {
    runs += 1;
  }

  @Post('refusing')
  refusing(): never {
    throw busy();
  }

  @Post('refusing-idempotently')
  @Idempotent()
  refusingIdempotently(): string {
    if (++runs === 1) throw busy();
    return 'done';
  }

  @Post('waiting')
  @Idempotent({ waitTimeout: 100 })
  async waiting(): Promise<number> {
    await held?.pass();
    return ++runs;
  }
}

@Controller('transaction')
@Idempotent({ transaction: { timeout: 1_000 } })
class TransactionProblemController {
  constructor(@Inject(DataSource) private readonly dataSource: DataSource) {}

  @Post('conflict')
  async conflict(): Promise<void> {
    await this.dataSource.query(`DO $$ BEGIN RAISE 'no order can be found' USING ERRCODE = '40001'; END $$`);
  }

  @Post('timeout')
  async timeout(): Promise<void> {
    await new Promise(() => undefined);
  }

  @Post('broken')
  async broken(): Promise<void> {
    await this.dataSource.query('COMMIT');
  }
}

@Controller('documented')
@Idempotent({ required: true, documentation: CLASS_DOCS })
class DocumentedController {
  @Post('class')
  ofClass(): number {
    return ++runs;
  }

  @Post('method')
  @Idempotent({ documentation: METHOD_DOCS })
  ofMethod(): number {
    return ++runs;
  }
}

/** What a handler throws that works with `IdempotencyService` and was refused. */
function busy(): IdempotencyException {
  return new IdempotencyException(new IdempotencyError('in_flight', 'Come back later.', { retryAfter: 7 }));
}

interface Expected {
  readonly status: number;
  readonly retryAfter: boolean;
  /** Makes the application refuse a request with this code; the key and a secret must not come back. */
  readonly provoke: () => Promise<Answer>;
}

describe.each<Platform>(['express', 'fastify'])('problems on %s', (platform) => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let app: TestApp;
  let open: TestApp[] = [];
  let key: string;
  let secret: string;

  const servers = appOnServers({
    platform,
    controllers: [ProblemController, DocumentedController, TransactionProblemController],
    options: { documentation: MODULE_DOCS, postgres: { timeout: 1_000 } },
  });
  beforeAll(() => ({ app, postgres, redis } = servers));
  beforeEach(() => {
    key = `key-${randomUUID()}`;
    secret = `secret-${randomUUID()}`;
    held = undefined;
    runs = 0;
  });
  afterEach(async () => {
    await Promise.all(open.map((each) => each.close()));
    open = [];
  });

  const start = async (options: Partial<TestAppOptions> = {}): Promise<TestApp> => {
    const started = await startApp({
      platform,
      databaseUrl: postgres.url,
      controllers: [ProblemController],
      options: { documentation: MODULE_DOCS },
      ...options,
    });
    open.push(started);
    return started;
  };
  const post = (path: string, { headers, ...more }: Call = {}, at = app): Promise<Answer> =>
    at.call(path, { body: { secret }, headers: { 'idempotency-key': key, ...headers }, ...more });

  /** The answer to a duplicate while the first request runs: 409 with Retry-After. */
  const inFlight = async (at: TestApp, path = '/held'): Promise<Answer> => {
    held = gate();
    const first = post(path, {}, at);
    await held.reached();
    const second = await post(path, {}, at);
    held.open();
    expect((await first).status).toBe(201);
    return second;
  };
  /** Freezes both stores while the handler runs, so that its outcome can be recorded nowhere. */
  const unrecorded = async (path: string, more: Call = {}): Promise<Answer> => {
    held = gate();
    const sending = post(path, more);
    await held.reached();
    postgres.kill('SIGSTOP');
    redis.kill('SIGSTOP');
    held.open();
    try {
      return await sending;
    } finally {
      redis.kill('SIGCONT');
      postgres.kill('SIGCONT');
      await eventually(async () => expect(await metric('idempotency_pending_writes')).toBe(0));
      await eventually(async () => expect(await metric('idempotency_redis_up')).toBe(1));
    }
  };

  const codes: Record<IdempotencyErrorCode, Expected> = {
    key_missing: {
      status: 400,
      retryAfter: false,
      provoke: () => app.call('/required', { body: { secret } }),
    },
    key_invalid: {
      status: 400,
      retryAfter: false,
      provoke: () => post('/required', { headers: { 'idempotency-key': `"${key}` } }),
    },
    body_too_deep: {
      status: 400,
      retryAfter: false,
      provoke: () => post('/required', { body: `${'['.repeat(30_000)}"${secret}"${']'.repeat(30_000)}` }),
    },
    fingerprint_mismatch: {
      status: 422,
      retryAfter: false,
      provoke: async () => {
        await post('/required');
        return post('/required', { body: { secret, other: true } });
      },
    },
    in_flight: { status: 409, retryAfter: true, provoke: () => inFlight(app) },
    overloaded: { status: 503, retryAfter: true, provoke: () => inFlight(app, '/alone') },
    outcome_unknown: {
      status: 409,
      retryAfter: false,
      provoke: async () => {
        const id = recordId('POST /once', key);
        const store = app.app.get(TieredStoreService, { strict: false });
        expect((await post('/once')).status).toBe(201);
        const finished = await store.find(id);
        await app.service.forget(key, { scope: 'POST /once' });
        // An owner that is gone: it claims, and neither renews nor completes.
        await store.claim({
          id,
          fingerprint: finished!.fingerprint,
          token: randomUUID(),
          lease: 50,
          takeOver: false,
          bypassCache: true,
          durability: 'durable',
        });
        return eventually(async () => {
          const answer = await post('/once');
          expect(answer.text).toContain('outcome-unknown');
          return answer;
        });
      },
    },
    outcome_not_stored: {
      status: 409,
      retryAfter: false,
      provoke: async () => {
        await post('/tiny');
        return post('/tiny');
      },
    },
    outcome_not_recorded: { status: 503, retryAfter: true, provoke: () => unrecorded('/held') },
    transaction_conflict: { status: 503, retryAfter: true, provoke: () => post('/transaction/conflict') },
    transaction_timeout: { status: 503, retryAfter: true, provoke: () => post('/transaction/timeout') },
    transaction_broken: { status: 500, retryAfter: false, provoke: () => post('/transaction/broken') },
    store_unavailable: {
      status: 503,
      retryAfter: true,
      provoke: async () => {
        postgres.kill('SIGSTOP');
        try {
          return await post('/required');
        } finally {
          postgres.kill('SIGCONT');
          await eventually(async () => expect((await post('/required')).status).toBe(201));
        }
      },
    },
  };

  it.each(Object.entries(codes))(
    'say what happened over HTTP, and neither key nor body: %s',
    async (code, { status, retryAfter, provoke }) => {
      const answer = await provoke();
      const problem = JSON.parse(answer.text) as Problem;
      expect(answer.status).toBe(status);
      expect(Object.keys(problem)).toEqual(['type', 'title', 'status', 'detail']);
      expect(problem).toMatchObject({
        type: `urn:problem-type:nestjs-idempotency:${code.replaceAll('_', '-')}`,
        status,
      });
      expect(answer.headers).toMatchObject({
        'content-type': 'application/problem+json; charset=utf-8',
        'content-length': String(answer.body.length),
        link: linkTo(MODULE_DOCS),
      });
      if (retryAfter) expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
      else expect(answer.headers['retry-after']).toBeUndefined();
      const everything = answer.text + answer.rawHeaders.join();
      expect(everything).not.toContain(key);
      expect(everything).not.toContain(secret);
      expect(isReplay(answer)).toBe(false);
    },
  );

  describe('link to the documentation', () => {
    it.each([
      ['/required', MODULE_DOCS],
      ['/documented/class', CLASS_DOCS],
      ['/documented/method', METHOD_DOCS],
    ])('that the nearest option names: %s', async (path, documentation) => {
      expect((await app.call(path)).headers.link).toBe(linkTo(documentation));
    });

    it('not at all where the option is not set, and never on another response', async () => {
      const bare = await start({ options: {} });
      expect((await bare.call('/required')).headers.link).toBeUndefined();
      expect((await post('/required')).headers.link).toBeUndefined();
      expect((await post('/required')).headers.link).toBeUndefined();
      expect((await app.call('/no-such-route')).headers.link).toBeUndefined();
    });

    const preload = '</style.css>; rel=preload';
    const middleware = (more: IdempotencyOptions = {}): Partial<TestAppOptions> => ({
      options: { documentation: MODULE_DOCS, ...more },
      configure: (nest: INestApplication) => {
        nest.use((_: unknown, response: ServerResponse, next: () => void) => {
          response.setHeader('Link', [preload, '</a.js>; rel=preload']);
          next();
        });
      },
    });

    it('behind the links that a middleware has set', async () => {
      const answer = await inFlight(await start(middleware()));
      expect(answer.headers.link).toBe(`${preload}, </a.js>; rel=preload, ${linkTo(MODULE_DOCS)}`);
    });

    if (platform === 'fastify') {
      it('behind the links that a hook has set on the reply', async () => {
        const hooked = await start({
          configure: (nest) => {
            const fastify = nest.getHttpAdapter().getInstance() as FastifyInstance;
            fastify.addHook('onRequest', (_, reply, done) => {
              void reply.header('Link', preload);
              done();
            });
          },
        });
        expect((await inFlight(hooked)).headers.link).toBe(`${preload}, ${linkTo(MODULE_DOCS)}`);
      });
    }
  });

  describe('have the media type of problem documents', () => {
    it('also where the route sets another one', async () => {
      const answer = await inFlight(app, '/of-another-type');
      expect(answer.headers['content-type']).toBe('application/problem+json; charset=utf-8');
    });

    it.each(['/safe', '/head'])(
      'in answers to HEAD, with the length that GET would give: %s',
      async (path) => {
        const answer = await app.call(path, { method: 'HEAD' });
        expect(answer.status).toBe(400);
        expect(answer.body).toHaveLength(0);
        const problem = await app.call('/required', { body: {} });
        expect(answer.headers).toMatchObject({
          'content-type': 'application/problem+json; charset=utf-8',
          'content-length': String(problem.body.length),
          link: linkTo(MODULE_DOCS),
        });
      },
    );

    if (platform === 'fastify') {
      it.each(['gzip', 'deflate', 'br'] as const)(
        'also where a hook of Fastify compresses them (%s)',
        async (encoding) => {
          const compress = { gzip: gzipSync, deflate: deflateSync, br: brotliCompressSync }[encoding];
          const compressing = await start({
            configure: (nest) => {
              const fastify = nest.getHttpAdapter().getInstance() as FastifyInstance;
              fastify.addHook('onSend', (_, reply, payload, done) => {
                void reply.header('Content-Encoding', encoding).removeHeader('Content-Length');
                done(null, compress(payload as string));
              });
            },
          });
          const answer = await compressing.call('/required');
          expect(answer.status).toBe(400);
          expect(answer.headers).toMatchObject({
            'content-encoding': encoding,
            'content-length': String(answer.body.length),
            'content-type': 'application/problem+json; charset=utf-8',
            link: linkTo(MODULE_DOCS),
          });
        },
      );
    }

    if (platform === 'express') {
      it('however Express is told to print JSON', async () => {
        const pretty = await start({
          configure: (nest) => {
            (nest.getHttpAdapter().getInstance() as { set(name: string, value: number): void }).set(
              'json spaces',
              2,
            );
          },
        });
        const answer = await pretty.call('/required');
        expect(answer.text).toContain('\n  "type"');
        expect(answer.headers).toMatchObject({
          'content-type': 'application/problem+json; charset=utf-8',
          'content-length': String(answer.body.length),
        });
      });
    }
  });

  it('found after the handler ran keep what was on the response before it, such as CORS, and nothing of its body', async () => {
    const seen = await start({
      redisUrl: redis.url,
      options: { documentation: MODULE_DOCS, postgres: { timeout: 1_000 } },
      configure: (nest) => {
        nest.enableCors({ origin: 'https://shop.example.com', credentials: true });
        nest.use((_: unknown, response: ServerResponse, next: () => void) => {
          response.setHeader('Link', '</style.css>; rel=preload');
          next();
        });
      },
    });
    const before = app;
    app = seen;
    const answer = await unrecorded('/of-another-type', {
      headers: { origin: 'https://shop.example.com' },
    }).finally(() => (app = before));
    expect(answer.status).toBe(503);
    expect(answer.headers).toMatchObject({
      'access-control-allow-origin': 'https://shop.example.com',
      'access-control-allow-credentials': 'true',
      'content-type': 'application/problem+json; charset=utf-8',
      'content-length': String(answer.body.length),
      link: `</style.css>; rel=preload, ${linkTo(MODULE_DOCS)}`,
    });
    expect(answer.headers['content-disposition']).toBeUndefined();
    expect(JSON.parse(answer.text)).toMatchObject({ status: 503 });
  });

  it('leave a response alone that a time-out of the application has sent meanwhile', async () => {
    const responses: ServerResponse[] = [];
    const timing = await start({
      configure: (nest) =>
        void nest.use((_: unknown, response: ServerResponse, next: () => void) => {
          responses.push(response);
          next();
        }),
    });
    const failures: unknown[] = [];
    const record = (reason: unknown): void => void failures.push(reason);
    process.on('unhandledRejection', record);
    held = gate();
    const first = post('/waiting', {}, timing);
    await held.reached();
    const left = await metric('idempotency_requests_total', { outcome: 'client_left' });
    const second = post('/waiting', {}, timing);
    await eventually(() => expect(responses).toHaveLength(2));
    responses[1]!.end('timed out');
    expect((await second).text).toBe('timed out');
    await eventually(async () =>
      expect(await metric('idempotency_requests_total', { outcome: 'client_left' })).toBe(left + 1),
    );
    held.open();
    expect((await first).status).toBe(201);
    process.off('unhandledRejection', record);
    expect(failures).toEqual([]);
  });

  describe('thrown by a handler that was refused by `IdempotencyService`', () => {
    it('are answered like those of the module', async () => {
      const answer = await app.call('/refusing');
      expect(answer.status).toBe(409);
      expect(answer.headers).toMatchObject({
        'content-type': 'application/problem+json; charset=utf-8',
        'retry-after': '7',
        link: linkTo(MODULE_DOCS),
      });
    });

    it('are no outcome: the key is given back', async () => {
      const refused = await post('/refusing-idempotently');
      expect(refused.status).toBe(409);
      expect(refused.headers).toMatchObject({
        'content-type': 'application/problem+json; charset=utf-8',
        'retry-after': '7',
        link: linkTo(MODULE_DOCS),
      });
      const retry = await post('/refusing-idempotently');
      expect(retry).toMatchObject({ status: 201, text: 'done' });
      expect(isReplay(retry)).toBe(false);
    });
  });

  describe('with filters of the application', () => {
    @Catch()
    class CatchAllFilter extends BaseExceptionFilter {
      override catch(exception: unknown, host: ArgumentsHost): void {
        super.catch(exception, host);
      }
    }

    /** Answers in the application's own form. */
    @Catch()
    class OwnFormFilter implements ExceptionFilter {
      constructor(private readonly host: HttpAdapterHost) {}

      catch(exception: unknown, host: ArgumentsHost): void {
        const code = exception instanceof IdempotencyException ? exception.code : 'unknown';
        this.host.httpAdapter.reply(host.switchToHttp().getResponse(), { error: code }, 418);
      }
    }

    /** The same, after some work of its own. */
    @Catch(IdempotencyException)
    class SlowFilter implements ExceptionFilter {
      constructor(private readonly host: HttpAdapterHost) {}

      async catch(exception: IdempotencyException, host: ArgumentsHost): Promise<void> {
        await Promise.resolve();
        new OwnFormFilter(this.host).catch(exception, host);
      }
    }

    /** Adds a member, so that the document is not the module's any more. */
    @Catch(IdempotencyException)
    class ExtendingFilter extends BaseExceptionFilter {
      override catch(exception: IdempotencyException, host: ArgumentsHost): void {
        Object.assign(exception.getResponse(), { requestId: 1 });
        super.catch(exception, host);
      }
    }

    /** Writes to Node's response past the platform, with headers of its own. */
    @Catch(IdempotencyException)
    class RawFilter implements ExceptionFilter {
      catch(exception: IdempotencyException, host: ArgumentsHost): void {
        const response = host
          .switchToHttp()
          .getResponse<ServerResponse & { raw?: ServerResponse; hijack?(): void }>();
        response.hijack?.();
        const raw = response.raw ?? response;
        raw.writeHead(exception.getStatus(), { 'Content-Type': 'text/html', Link: '</own>; rel=help' });
        raw.end('<p>Later</p>');
      }
    }

    @Catch(IdempotencyException)
    class ThrowingFilter implements ExceptionFilter {
      catch(): never {
        throw new Error('a filter of the application failed');
      }
    }

    const everywhere: [where: string, Partial<TestAppOptions>][] = [
      ['nowhere', {}],
      [
        'useGlobalFilters',
        { configure: (nest) => void nest.useGlobalFilters(new CatchAllFilter(nest.getHttpAdapter())) },
      ],
      ['APP_FILTER', { providers: [{ provide: APP_FILTER, useClass: CatchAllFilter }] }],
      ['a controller', { controllers: [decorated(CatchAllFilter, 'class')] }],
      ['a route', { controllers: [decorated(CatchAllFilter, 'method')] }],
    ];
    it.each(everywhere)('that pass the exception on: our document as it is (%s)', async (_, options) => {
      const answer = await inFlight(await start(options));
      expect(answer.status).toBe(409);
      expect(answer.text).toContain('urn:problem-type:nestjs-idempotency:in-flight');
      expect(answer.headers).toMatchObject({
        'content-type': 'application/problem+json; charset=utf-8',
        'content-length': String(answer.body.length),
        link: linkTo(MODULE_DOCS),
      });
      expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
    });

    const ownForm: [where: string, Partial<TestAppOptions>][] = [
      [
        'useGlobalFilters',
        { configure: (nest) => void nest.useGlobalFilters(new OwnFormFilter(nest.get(HttpAdapterHost))) },
      ],
      ['APP_FILTER', { providers: [{ provide: APP_FILTER, useClass: OwnFormFilter }] }],
      ['a controller', { controllers: [decorated(OwnFormFilter, 'class')] }],
      ['a route', { controllers: [decorated(OwnFormFilter, 'method')] }],
      ['a route, answering later', { controllers: [decorated(SlowFilter, 'method')] }],
    ];
    /** Makes an application whose store may be frozen refuse a request with each of these codes. */
    const provoked: [IdempotencyErrorCode, retryAfter: boolean, (at: TestApp) => Promise<Answer>][] = [
      ['in_flight', true, inFlight],
      ['key_missing', false, (at) => at.call('/held', { body: { secret } })],
      [
        'fingerprint_mismatch',
        false,
        async (at) => {
          expect((await post('/held', {}, at)).status).toBe(201);
          return post('/held', { body: { secret, other: true } }, at);
        },
      ],
      [
        'store_unavailable',
        true,
        async (at) => {
          postgres.kill('SIGSTOP');
          return post('/held', {}, at).finally(() => postgres.kill('SIGCONT'));
        },
      ],
    ];
    const cases = ownForm.flatMap(([where, options]) =>
      provoked.map(([code, ...rest]) => [code, where, options, ...rest] as const),
    );
    it.each(cases)(
      'that answer in their own form: it, with the link, and with Retry-After where there is one (%s, %s)',
      async (code, _, options, retryAfter, provoke) => {
        const limits = { documentation: MODULE_DOCS, postgres: { timeout: 1_000 } };
        const answer = await provoke(await start({ options: limits, ...options }));
        expect(answer).toMatchObject({ status: 418, text: JSON.stringify({ error: code }) });
        expect(answer.headers).toMatchObject({
          'content-type': 'application/json; charset=utf-8',
          'content-length': String(answer.body.length),
          link: linkTo(MODULE_DOCS),
        });
        if (retryAfter) expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
        else expect(answer.headers['retry-after']).toBeUndefined();
      },
    );

    it('that add a member: theirs is no document of ours', async () => {
      const answer = await inFlight(await start({ controllers: [decorated(ExtendingFilter, 'method')] }));
      expect(JSON.parse(answer.text)).toMatchObject({ status: 409, requestId: 1 });
      expect(answer.headers['content-type']).toMatch(/^application\/json/);
      expect(answer.headers.link).toBe(linkTo(MODULE_DOCS));
    });

    it('that write past the platform: Retry-After is there, and the link behind their own', async () => {
      const answer = await inFlight(await start({ controllers: [decorated(RawFilter, 'method')] }));
      expect(answer).toMatchObject({ status: 409, text: '<p>Later</p>' });
      expect(answer.headers).toMatchObject({
        'content-type': 'text/html',
        link: `</own>; rel=help, ${linkTo(MODULE_DOCS)}`,
      });
      expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
    });

    it('that throw: the caller gets the platform’s 500, and the key is as it was', async () => {
      const failing = await start({ controllers: [decorated(ThrowingFilter, 'method')] });
      const answer = await inFlight(failing);
      expect(answer.status).toBe(500);
      expect(answer.headers['content-type']).not.toContain('problem');
      expect(answer.headers['content-length']).toBe(String(answer.body.length));
      expect(isReplay(await post('/held', {}, failing))).toBe(true);
      expect(runs).toBe(1);
    });
  });
});

/** The `held` route with a filter on its controller or on itself. */
function decorated(filter: Type<ExceptionFilter>, where: 'class' | 'method'): Type {
  const onClass = where === 'class' ? UseFilters(filter) : () => undefined;
  const onMethod = where === 'method' ? UseFilters(filter) : () => undefined;

  @Controller()
  @onClass
  class FilteredController {
    @Post('held')
    @onMethod
    @Idempotent({ inFlight: 'reject', required: true })
    async held(): Promise<number> {
      runs += 1;
      await held?.pass();
      return runs;
    }
  }
  return FilteredController;
}
