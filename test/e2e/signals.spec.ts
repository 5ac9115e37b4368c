import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Controller, Post } from '@nestjs/common';
import { context, trace, TraceFlags, type Span } from '@opentelemetry/api';
import {
  InMemorySpanExporter,
  SimpleSpanProcessor,
  type ReadableSpan,
  type SpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import Redis from 'ioredis';
import {
  IdempotencyAdmin,
  Idempotent,
  type IdempotencyChannels,
  type IdempotencyModuleOptions,
  type OrphanMessage,
} from '../../lib';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import { gate, type Gate } from '../support/gate';
import type { Answer } from '../support/http';
import { KeptLog } from '../support/log';
import { metric } from '../support/metrics';
import { startTracing, stopTracing } from '../support/tracing';

jest.mock('../../lib/store/cache-deadline', () => jest.requireActual<object>('../support/awaited-redis'));

let held: Gate | undefined;

@Controller('leads')
class LeadsController {
  @Post('many/:id')
  @Idempotent({ required: true })
  async create(): Promise<string> {
    await held?.pass();
    return 'created';
  }

  @Post('alone')
  @Idempotent({ maxWaiters: 0 })
  async alone(): Promise<string> {
    await held?.pass();
    return 'created';
  }

  @Post('transaction')
  @Idempotent({ transaction: true })
  async inTransaction(): Promise<string> {
    await held?.pass();
    return 'created';
  }
}

/** What a tracer of the application's own may do. */
let spansFail = false;
const failing: SpanProcessor = {
  onStart: () => {
    if (spansFail) throw new Error('a processor that fails');
  },
  onEnd: () => {
    if (spansFail) throw new Error('a processor that fails');
  },
  forceFlush: () => Promise.resolve(),
  shutdown: () => Promise.resolve(),
};
const exporter = new InMemorySpanExporter();
const tracer = startTracing([failing, new SimpleSpanProcessor(exporter)]).getTracer('application');

/** One span for each request, as instrumentations of HTTP make it. */
function traced({ headers }: IncomingMessage, response: ServerResponse, next: () => void): void {
  const unsampled = { traceId: '1'.repeat(32), spanId: '1'.repeat(16), traceFlags: TraceFlags.NONE };
  const failed = spansFail;
  spansFail = false;
  const span = headers['x-unsampled'] ? trace.wrapSpanContext(unsampled) : tracer.startSpan('request');
  spansFail = failed;
  response.once('close', () => {
    spansFail = false;
    span.end();
  });
  context.with(trace.setSpan(context.active(), span), next);
}

type Name = keyof IdempotencyChannels;
const NAMES: readonly Name[] = [
  'nestjs-idempotency:claimed',
  'nestjs-idempotency:taken-over',
  'nestjs-idempotency:replayed',
  'nestjs-idempotency:refused',
  'nestjs-idempotency:shed',
  'nestjs-idempotency:orphaned',
];
let events: [string, unknown][] = [];
/** From the start on. */
const orphans: OrphanMessage[] = [];
const listeners = NAMES.map((name) => ({
  name,
  listener: (message: unknown): void => {
    if (name === 'nestjs-idempotency:orphaned') orphans.push(message as OrphanMessage);
    else events.push([name.split(':')[1]!, message]);
  },
}));
const eventsBut = (left: string): [string, unknown][] => events.filter(([name]) => name !== left);

let postgres: RunningPostgres;
let redis: RunningRedis;
let copies: Redis;
const apps: TestApp[] = [];
const log = new KeptLog();
const ORPHAN = 'd'.repeat(64);

beforeAll(async () => {
  for (const { name, listener } of listeners) subscribe(name, listener);
  [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  copies = new Redis(redis.url);
});
afterAll(async () => {
  for (const { name, listener } of listeners) unsubscribe(name, listener);
  for (const app of apps) await app.close();
  copies.disconnect();
  await Promise.all([postgres.stop(), redis.stop()]);
  stopTracing();
});

describe.each(['express', 'fastify'] as const)('on %s', (platform) => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({
      platform,
      databaseUrl: postgres.url,
      redisUrl: redis.url,
      controllers: [LeadsController],
      options: { redis: { timeout: '5s' } }, // a copy that is not written in time is not written again
      settings: { logger: log },
      configure: (nest) => void nest.use(traced),
    });
    apps.push(app);
    await sql(
      postgres.url,
      `INSERT INTO idempotency_cache (id, token, fingerprint, state, attempt, lease_until, created_at, expires_at, scope, key)
       VALUES ('\\x${ORPHAN}', gen_random_uuid(), sha256('f'), 'in_progress', 2, now() - interval '1 min', now(),
         now() + interval '1 d', 'POST /payments user.id:s:alice', 'their-key')
       ON CONFLICT DO NOTHING`,
    );
  });
  beforeEach(() => {
    held = undefined;
    exporter.reset();
    events = [];
  });

  const post = (key: string, path = '/leads/many/7', more: Record<string, string> = {}): Promise<Answer> =>
    app.call(path, { headers: { ...(key ? { 'idempotency-key': key } : {}), ...more }, body: { n: 1 } });

  /** The spans of so many requests, once they have ended; the requests first, in the order in which they began. */
  async function spansOf(requests: number): Promise<ReadableSpan[]> {
    return eventually(() => {
      const spans = exporter.getFinishedSpans();
      const roots = spans.filter(({ name }) => name === 'request');
      expect(roots).toHaveLength(requests);
      return [...roots.sort(byStart), ...spans.filter(({ name }) => name !== 'request')];
    });
  }
  /** Resolves once Redis has what is recorded under this key. */
  async function copied(key: string): Promise<void> {
    const admin = app.app.get(IdempotencyAdmin);
    const [record] = (await admin.list({ key })).records;
    await eventually(async () => expect((await admin.show(record!.hash))?.copy).toBe('completed'));
  }
  const hash = expect.stringMatching(/^[0-9a-f]{64}$/) as string;
  const route = 'POST /leads/many/:id';

  it('a first request has its outcome, its attempt and its hash, and spans of its claim and completion', async () => {
    const key = `key ${randomUUID()}`;
    expect((await post(key)).status).toBe(201);
    const [request, ...others] = await spansOf(1);
    expect(request!.attributes).toEqual({
      'idempotency.outcome': 'executed',
      'idempotency.attempt': 1,
      'idempotency.hash': hash,
    });
    expect(treeOf(request!, others)).toEqual({
      'idempotency.claim': { 'idempotency.batch': {} },
      'idempotency.complete': { 'idempotency.batch': {} },
    });
    const batches = others.filter(({ name }) => name === 'idempotency.batch');
    expect(batches.map(({ attributes }) => attributes)).toEqual([
      { 'idempotency.operation': 'claim', 'idempotency.batch.size': 1 },
      { 'idempotency.operation': 'complete', 'idempotency.batch.size': 1 },
    ]);
    expect(events).toEqual([['claimed', { hash, route, attempt: 1, fence: expect.any(Number) as number }]]);
    const told = JSON.stringify([events, [request!, ...others].map(({ attributes }) => attributes)]);
    expect(told).not.toContain(key);
  });

  it('a replay says which tier it came from', async () => {
    const key = randomUUID();
    await post(key);
    await copied(key);
    await post(key);
    await copies.flushall();
    await post(key);
    const requests = (await spansOf(3)).slice(1, 3);
    expect(requests.map(({ attributes }) => attributes)).toEqual(
      ['redis', 'postgres'].map((tier) => ({
        'idempotency.outcome': 'replayed',
        'idempotency.tier': tier,
        'idempotency.hash': hash,
      })),
    );
    expect(eventsBut('claimed')).toEqual(
      ['redis', 'postgres'].map((source) => ['replayed', { hash, route, source, waited: 0 }]),
    );
  });

  it.each(['/leads/many/7', '/leads/transaction'])(
    'a duplicate says for how long it waited: %s',
    async (path) => {
      held = gate();
      const key = randomUUID();
      const first = post(key, path);
      await held.reached();
      const second = post(key, path);
      await eventually(async () => expect(await metric('idempotency_waiting_requests')).toBe(1));
      held.open();
      await Promise.all([first, second]);
      const [, request] = await spansOf(2);
      expect(request!.attributes).toEqual({
        'idempotency.outcome': 'replayed',
        'idempotency.tier': 'process',
        'idempotency.waited_ms': expect.any(Number) as number,
        'idempotency.hash': hash,
      });
      const [[name, message] = []] = eventsBut('claimed');
      expect([name, message]).toEqual([
        'replayed',
        expect.objectContaining({ source: 'process', waited: expect.any(Number) as number }),
      ]);
      expect((message as { waited: number }).waited).toBeGreaterThan(0);
    },
  );

  it('a refusal says why, also where there is no key', async () => {
    await post('');
    const key = randomUUID();
    await post(key);
    await post(key, '/leads/many/7?other');
    const [missing, , mismatch] = await spansOf(3);
    expect(missing!.attributes).toEqual({ 'idempotency.outcome': 'key_missing' });
    expect(mismatch!.attributes).toEqual({
      'idempotency.outcome': 'fingerprint_mismatch',
      'idempotency.hash': hash,
    });
    expect(eventsBut('claimed')).toEqual([
      ['refused', { hash: undefined, route, code: 'key_missing', waited: 0 }],
      ['refused', { hash, route, code: 'fingerprint_mismatch', waited: 0 }],
    ]);
  });

  it('a request that is shed says what was full, and is refused', async () => {
    held = gate();
    const key = randomUUID();
    const first = post(key, '/leads/alone');
    await held.reached();
    expect((await post(key, '/leads/alone')).status).toBe(503);
    held.open();
    await first;
    const alone = { hash, route: 'POST /leads/alone' };
    expect(eventsBut('claimed')).toEqual([
      ['shed', { ...alone, reason: 'waiters_of_key' }],
      ['refused', { ...alone, code: 'overloaded', waited: expect.any(Number) as number }],
    ]);
  });

  it('in a transaction the claim is its begin, and the completion its commit', async () => {
    const key = randomUUID();
    await post(key, '/leads/transaction');
    await post(key, '/leads/transaction');
    const [first, second, ...others] = await spansOf(2);
    expect(treeOf(first!, others)).toEqual({ 'idempotency.claim': {}, 'idempotency.complete': {} });
    expect(first!.attributes).toMatchObject({ 'idempotency.outcome': 'executed', 'idempotency.attempt': 1 });
    expect(second!.attributes).toMatchObject({ 'idempotency.outcome': 'replayed' });
    expect(events.map(([name]) => name)).toEqual(['claimed', 'replayed']);
  });

  it('execute() has a span, which its work is in, so that several do not overwrite each other', async () => {
    const keys = [randomUUID(), randomUUID()];
    await tracer.startActiveSpan('request', async (job) => {
      for (const key of [...keys, keys[0]!])
        await app.service.execute(key, () => tracer.startActiveSpan('work', (work) => work.end()));
      job.end();
    });
    const [job, ...others] = await spansOf(1);
    expect(job!.attributes).toEqual({});
    const executions = others.filter(({ name }) => name === 'idempotency.execute').sort(byStart);
    expect(executions.map(({ attributes }) => attributes['idempotency.outcome'])).toEqual([
      'executed',
      'executed',
      'replayed',
    ]);
    expect(Object.keys(treeOf(executions[0]!, others))).toEqual([
      'idempotency.claim',
      'work',
      'idempotency.complete',
    ]);
    expect(events.map(([name]) => name)).toEqual(['claimed', 'claimed', 'replayed']);
    exporter.reset();
    await app.service.execute(randomUUID(), () => undefined); // in no span
    expect(exporter.getFinishedSpans()).toEqual([]);
  });

  it('operations of one batch link to it, and it to them', async () => {
    // In one turn, so that their claims go in one batch, however busy the machine is.
    await tracer.startActiveSpan('request', async (job) => {
      await Promise.all(Array.from({ length: 30 }, () => app.service.execute(randomUUID(), () => 1)));
      job.end();
    });
    const spans = await spansOf(1);
    const batches = spans.filter(({ attributes }) => Number(attributes['idempotency.batch.size']) > 1);
    expect(batches.length).toBeGreaterThan(0);
    const idOf = (span: ReadableSpan): string => span.spanContext().spanId;
    for (const batch of batches) {
      const { 'idempotency.batch.size': size, 'idempotency.operation': operation } = batch.attributes;
      const linked = spans.filter(({ links }) => links.some((link) => link.context.spanId === idOf(batch)));
      expect(linked).toHaveLength(Number(size) - 1);
      expect(new Set(linked.map(({ name }) => name))).toEqual(new Set([`idempotency.${String(operation)}`]));
      expect(batch.links.map((link) => link.context.spanId).sort()).toEqual(linked.map(idOf).sort());
    }
  });

  it('a takeover is told beside its claim', async () => {
    const key = randomUUID();
    await post(key);
    await copied(key); // or it would come after Redis was emptied
    await sql(
      postgres.url,
      `UPDATE idempotency_cache SET state = 'in_progress', lease_until = now() - interval '1 min',
         completed_at = NULL, status = NULL, headers = NULL, body = NULL WHERE key = $1`,
      [key],
    );
    await copies.flushall();
    exporter.reset();
    events = [];
    expect((await post(key)).status).toBe(201);
    const [request] = await spansOf(1);
    expect(request!.attributes).toMatchObject({
      'idempotency.outcome': 'executed',
      'idempotency.attempt': 2,
    });
    const message = { hash, route, attempt: 2, fence: expect.any(Number) as number };
    expect(events).toEqual([
      ['claimed', message],
      ['taken-over', message],
    ]);
  });

  it('a request that is not sampled has no span', async () => {
    expect((await post(randomUUID(), '/leads/many/7', { 'x-unsampled': 'yes' })).status).toBe(201);
    await post(randomUUID());
    expect((await spansOf(1)).every((span) => span.spanContext().traceId !== '1'.repeat(32))).toBe(true);
  });

  it('a tracer that fails changes no answer', async () => {
    spansFail = true;
    expect((await post(randomUUID())).status).toBe(201);
  });

  describe('what fails within OpenTelemetry itself changes no answer', () => {
    const fail = (): never => {
      throw new Error('tracing that fails');
    };
    afterEach(() => jest.restoreAllMocks());

    it.each(['before it calls', 'after it has called'])('a context manager, %s', async (when) => {
      const real = context.with.bind(context);
      let isRequest = true;
      jest.spyOn(context, 'with').mockImplementation((...args) => {
        if (isRequest) {
          isRequest = false;
          return real(...args) as unknown;
        }
        if (when === 'after it has called') void real(...args);
        return fail();
      });
      expect((await post(randomUUID())).status).toBe(201);
      expect(isRequest).toBe(false);
      expect(events.map(([name]) => name)).toEqual(['claimed']);
    });

    it('a look for the span', async () => {
      jest.spyOn(trace, 'getActiveSpan').mockImplementation(fail);
      expect((await post(randomUUID())).status).toBe(201);
    });
  });
});

it('an orphan is told and logged once, although several instances look', async () => {
  const told = (): unknown[] => orphans.filter(({ hash }) => hash === ORPHAN);
  await eventually(() => expect(told()).toHaveLength(1));
  expect(told()).toEqual([
    { hash: ORPHAN, route: 'POST /payments', attempt: 2, age: expect.any(Number) as number },
  ]);
  const lines = log.lines.filter((line) => line.includes(ORPHAN));
  expect(lines).toEqual([
    expect.stringMatching(/outcome unknown: POST \/payments, attempt 2, lease lapsed \d+ s ago/),
  ]);
  expect(lines.join()).not.toMatch(/alice|their-key/);
});

describe('the option `tracing`', () => {
  const attributesWith = async (
    tracing: IdempotencyModuleOptions['tracing'],
    key: string,
  ): Promise<unknown> => {
    const app = await startApp({ inMemory: true, options: { tracing } });
    exporter.reset();
    await tracer.startActiveSpan('request', async (span: Span) => {
      await app.service.execute(key, () => undefined);
      span.end();
    });
    await app.close();
    return exporter.getFinishedSpans().map(({ name, attributes }) => [name, attributes['idempotency.key']]);
  };

  it('adds the key where it is asked for', async () => {
    expect(await attributesWith({ key: true }, 'the key')).toContainEqual(['idempotency.execute', 'the key']);
    expect(await attributesWith({}, 'the key')).toContainEqual(['idempotency.execute', undefined]);
  });

  it('false leaves no trace', async () => {
    expect(await attributesWith(false, 'the key')).toEqual([['request', undefined]]);
  });
});

it('a subscriber that throws changes no answer; the process is told of it as of any uncaught error', async () => {
  const register = join(__dirname, '../support/register.js');
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--no-warnings', '-r', register, '-e', SUBSCRIBER_THAT_THROWS],
    { cwd: join(__dirname, '../..') },
  );
  expect(JSON.parse(stdout)).toEqual({ values: [1, 1], uncaught: ['subscriber', 'subscriber'] });
});

const SUBSCRIBER_THAT_THROWS = `
  const { subscribe } = require('node:diagnostics_channel');
  const { Module } = require('@nestjs/common');
  const { NestFactory } = require('@nestjs/core');
  const { IdempotencyModule, IdempotencyService } = require('nestjs-idempotency');
  const uncaught = [];
  process.on('uncaughtException', (error) => uncaught.push(error.message));
  for (const name of ['claimed', 'replayed'])
    subscribe('nestjs-idempotency:' + name, () => { throw new Error('subscriber'); });
  (async () => {
    class Root {}
    Module({ imports: [IdempotencyModule.forRoot({ store: 'memory' })] })(Root);
    const app = await NestFactory.createApplicationContext(Root, { logger: false });
    let runs = 0;
    const values = [];
    for (let time = 0; time < 2; time++)
      values.push(await app.get(IdempotencyService).execute('key', () => ++runs));
    await app.close();
    await new Promise(setImmediate);
    console.log(JSON.stringify({ values, uncaught }));
  })();
`;

interface Tree {
  readonly [name: string]: Tree;
}

/** The names of the spans within this one, in the order in which they began. */
function treeOf(parent: ReadableSpan, spans: readonly ReadableSpan[]): Tree {
  const within = spans.filter(
    ({ parentSpanContext }) => parentSpanContext?.spanId === parent.spanContext().spanId,
  );
  return Object.fromEntries(within.sort(byStart).map((span) => [span.name, treeOf(span, spans)]));
}

function byStart(one: ReadableSpan, other: ReadableSpan): number {
  const [seconds, nanoseconds] = one.startTime;
  const [otherSeconds, otherNanoseconds] = other.startTime;
  return seconds - otherSeconds || nanoseconds - otherNanoseconds;
}
