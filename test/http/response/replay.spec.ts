import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect } from 'node:http2';
import { Controller, Get, Head, Logger, Post, Res, type INestApplication } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { Idempotent } from '../../../lib';
import { startPostgres, type RunningPostgres } from '../../../servers';
import { startApp, type Platform, type TestApp } from '../../support/app';
import { gate, type Gate } from '../../support/gate';
import { bytesOf, headerOf, isReplayed, Wire, type WireRequest, type WireResponse } from '../../support/wire';
import { raw, type AnyResponse } from '../../e2e/responses/runs';

let runs = 0;
let hold: Gate | undefined;

/** What belongs to the request at hand. */
const OWN = [
  'RateLimit',
  'RateLimit-Policy',
  'X-RateLimit-Remaining',
  'X-Request-Id',
  'X-Correlation-Id',
  'traceparent',
  'tracestate',
  'Server-Timing',
];

/** As limiters, tracers and sessions do: a value of its own for each request. */
function surround(app: INestApplication): void {
  app.use((_: IncomingMessage, response: ServerResponse, next: () => void) => {
    for (const name of OWN) response.setHeader(name, randomUUID());
    response.setHeader('Set-Cookie', `session=${randomUUID()}`);
    response.setHeader('X-Middleware', 'set');
    response.setHeader('X-Removed', 'set');
    response.setHeader('Content-Length', '3');
    next();
  });
  app.enableCors({ origin: ['https://a.example', 'https://b.example'], credentials: true });
}

@Controller()
@Idempotent()
class HeadersController {
  constructor(private readonly dataSource: DataSource) {}

  @Post('removes')
  removes(@Res({ passthrough: true }) response: AnyResponse): unknown {
    this.remove(raw(response));
    return { run: ++runs, nonce: randomUUID() };
  }

  @Post('removes-itself')
  removesItself(@Res() response: AnyResponse): void {
    this.remove(raw(response));
    raw(response).removeHeader('Content-Length');
    raw(response).end(`run ${++runs} ${randomUUID()}`);
  }

  @Post('waits')
  async waits(@Res({ passthrough: true }) response: AnyResponse): Promise<unknown> {
    this.remove(raw(response));
    await hold?.pass();
    return { run: ++runs };
  }

  @Get('read')
  @Idempotent()
  read(@Res({ passthrough: true }) response: AnyResponse): unknown {
    this.remove(raw(response));
    return { run: ++runs };
  }

  @Head('head')
  @Idempotent()
  head(@Res() response: AnyResponse): void {
    runs += 1;
    this.remove(raw(response));
    raw(response).setHeader('Content-Length', '42').end();
  }

  @Post('varies')
  varies(@Res({ passthrough: true }) response: AnyResponse): unknown {
    raw(response).setHeader('Vary', 'Accept, origin');
    return { run: ++runs };
  }

  @Post('listed')
  @Idempotent({ replayHeaders: ['x-listed', 'content-type'] })
  listed(@Res({ passthrough: true }) response: AnyResponse): unknown {
    raw(response).setHeader('X-Listed', String(++runs));
    return { run: runs };
  }

  /** Another owner took over and has finished by the time at which this one ends. */
  @Post('loses')
  async loses(@Res() response: AnyResponse): Promise<void> {
    runs += 1;
    const headers = [
      ['X-Winner', 'yes'],
      ['Vary', 'Accept'],
      ['Access-Control-Allow-Origin', 'https://a.example'],
    ];
    await this.dataSource.query(
      `UPDATE idempotency_cache SET token = gen_random_uuid(), fence = fence + 1, attempt = 2, state = 'completed',
         lease_until = NULL, completed_at = now(), status = 202, headers = $1, body = 'winner'
       WHERE state = 'in_progress'`,
      [JSON.stringify(headers)],
    );
    raw(response).setHeader('Set-Cookie', 'session=loser').setHeader('X-Loser', 'yes');
    raw(response).setHeader('X-Request-Id', 'loser').end('loser');
  }

  private remove(response: ServerResponse): void {
    for (const name of ['X-Powered-By', 'X-Removed']) response.removeHeader(name);
  }
}

describe.each<Platform>(['express', 'fastify'])('the headers of a replay on %s', (platform) => {
  let postgres: RunningPostgres;
  let app: TestApp;
  let database: DataSource;
  let key: string;
  let wires: Wire[] = [];

  beforeAll(async () => {
    postgres = await startPostgres();
    app = await startApp({
      platform,
      databaseUrl: postgres.url,
      controllers: [HeadersController],
      configure: surround,
    });
    database = app.app.get(DataSource);
  });
  afterAll(async () => {
    await app.close();
    await postgres.stop();
  });
  beforeEach(() => {
    runs = 0;
    hold = undefined;
    key = randomUUID();
  });
  afterEach(() => {
    for (const wire of wires) wire.leave();
    wires = [];
  });

  const ask = async (
    path: string,
    origin: string,
    more: Partial<WireRequest> = {},
  ): Promise<WireResponse> => {
    const wire = await Wire.open(app.url);
    wires.push(wire);
    return wire.ask({ path, headers: { 'Idempotency-Key': key, Origin: origin }, ...more });
  };
  const twice = async (path: string, more?: Partial<WireRequest>): Promise<[WireResponse, WireResponse]> => [
    await ask(path, 'https://a.example', more),
    await ask(path, 'https://b.example', more),
  ];
  const own = (response: WireResponse): (string | undefined)[] =>
    [...OWN, 'Set-Cookie'].map((name) => headerOf(response.headerLines, name.toLowerCase()));
  const recordedBytes = (response: WireResponse): string =>
    bytesOf(response, [
      ...[...OWN, 'Set-Cookie'].map((name) => name.toLowerCase()),
      'access-control-allow-origin',
      'access-control-allow-credentials',
    ]);
  const expectOwn = (first: WireResponse, retry: WireResponse): void => {
    expect(headerOf(first.headerLines, 'access-control-allow-origin')).toBe('https://a.example');
    expect(headerOf(retry.headerLines, 'access-control-allow-origin')).toBe('https://b.example');
    own(retry).forEach((value, index) => {
      expect(value).toMatch(/[0-9a-f-]{36}$/);
      expect(value).not.toBe(own(first)[index]);
    });
    const names = retry.headerLines.map((line) => line.slice(0, line.indexOf(':')).toLowerCase());
    expect(new Set(names).size).toBe(names.length);
  };

  it.each(['/removes', '/removes-itself', '/waits', '/varies'])(
    'are the first response’s, and what belongs to a request is the retry’s own: %s',
    async (path) => {
      const [first, retry] = await twice(path);
      expect([isReplayed(retry), runs]).toEqual([true, 1]);
      expectOwn(first, retry);
      expect(recordedBytes(retry)).toBe(recordedBytes(first));
      if (path === '/varies') return;
      for (const { headerLines } of [first, retry]) {
        expect(headerOf(headerLines, 'x-removed')).toBeUndefined();
        expect(headerOf(headerLines, 'x-powered-by')).toBeUndefined();
        expect(headerOf(headerLines, 'x-middleware')).toBe('set');
      }
    },
  );

  it('are so for GET and HEAD, whose length is that of the body that it lacks', async () => {
    const [first, retry] = await twice('/read', { method: 'GET' });
    expectOwn(first, retry);
    expect(recordedBytes(retry)).toBe(recordedBytes(first));
    key = randomUUID();
    const [firstHead, retryHead] = await twice('/head', { method: 'HEAD' });
    expect(headerOf(retryHead.headerLines, 'content-length')).toBe('42');
    expectOwn(firstHead, retryHead);
    expect(recordedBytes(retryHead)).toBe(recordedBytes(firstHead));
    expect(runs).toBe(2);
  });

  it('are so for a duplicate that waited in this process', async () => {
    hold = gate();
    const pending = ask('/waits', 'https://a.example');
    await hold.reached();
    const waiting = ask('/waits', 'https://b.example');
    hold.open();
    const [first, duplicate] = [await pending, await waiting];
    expectOwn(first, duplicate);
    expect(recordedBytes(duplicate)).toBe(recordedBytes(first));
    expect(runs).toBe(1);
  });

  it('are the winner’s after a takeover, and nothing of the loser’s is left', async () => {
    const answer = await ask('/loses', 'https://b.example');
    expect([answer.status, answer.body.toString(), runs]).toEqual([202, 'winner', 1]);
    const of = (name: string): string | undefined => headerOf(answer.headerLines, name);
    expect(of('x-winner')).toBe('yes');
    expect(of('access-control-allow-origin')).toBe('https://b.example');
    expect(of('vary')).toBe('Accept, Origin');
    for (const name of ['x-loser', 'x-middleware', 'x-removed', 'x-powered-by'])
      expect(of(name)).toBeUndefined();
    expect(of('set-cookie')).toMatch(/^session=[0-9a-f-]{36}$/);
    expect(of('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('name in `Vary` what the first response and the retry’s own middleware name, each once', async () => {
    const [first, retry] = await twice('/varies');
    expect(headerOf(first.headerLines, 'vary')).toMatch(/^Accept, origin$|^Origin$/);
    await database.query(`UPDATE idempotency_cache SET headers = '[["Vary", "Accept"]]' WHERE key = $1`, [
      key,
    ]);
    const later = await ask('/varies', 'https://b.example');
    expect(headerOf(later.headerLines, 'vary')).toBe('Accept, Origin');
    expect(retry.status).toBe(201);
  });

  it('that `replayHeaders` leaves out are the retry’s own', async () => {
    const [first, retry] = await twice('/listed');
    expect(headerOf(first.headerLines, 'x-listed')).toBe('1');
    expect(headerOf(retry.headerLines, 'x-listed')).toBe('1');
    expect(headerOf(retry.headerLines, 'x-middleware')).toBe('set');
    expectOwn(first, retry);
    expect([retry.body, runs]).toEqual([first.body, 1]);
  });

  describe('that were put into the store by others', () => {
    const stored = async (change: string, path = '/removes'): Promise<void> => {
      await ask(path, 'https://a.example');
      await database.query(`UPDATE idempotency_cache SET ${change} WHERE key = $1`, [key]);
    };

    it('do not reach the wire where they belong to one request', async () => {
      const headers = [
        'Set-Cookie',
        'WWW-Authenticate',
        'Access-Control-Allow-Origin',
        'X-Request-Id',
        'Date',
      ];
      await stored(`headers = '${JSON.stringify(headers.map((name) => [name, 'stored']))}'`);
      const retry = await ask('/removes', 'https://b.example');
      expect([retry.status, isReplayed(retry)]).toEqual([201, true]);
      expect(retry.headerLines.filter((line) => line.includes('stored'))).toEqual([]);
    });

    it.each([
      ['a length below that of the body', `headers = '[["Content-Length", "3"]]'`],
      ['a length above that of the body', `headers = '[["Content-Length", "3000"]]'`],
      ['two lengths', `headers = '[["Content-Length", "3"], ["content-length", "30"]]'`],
      ['a list of lengths', `headers = '[["Content-Length", ["3", "3"]]]'`],
      ['a length that is none', `headers = '[["Content-Length", "0x3"]]'`],
      ['a length without its body', `headers = '[["Content-Length", "3"]]', body = ''`],
      ['chunks', `headers = '[["Transfer-Encoding", "chunked"]]'`],
      ['another protocol', `headers = '[["Upgrade", "h2c"], ["Connection", "upgrade"]]'`],
      ['a body behind 204', `status = 204, headers = '[]'`],
      ['a body behind 304', `status = 304, headers = '[]'`],
      ['a reason phrase that is a list', `headers = '[[":reason", ["OK", "OK"]]]'`],
    ])('never split the connection: %s', async (_, change) => {
      const log = jest.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
      await stored(change);
      const wire = await Wire.open(app.url);
      wires.push(wire);
      const request = { path: '/removes', headers: { 'Idempotency-Key': key, Origin: 'https://b.example' } };
      wire.send(request);
      wire.send(request);
      wire.send({ ...request, headers: { 'Idempotency-Key': randomUUID() } });
      const answers = [await wire.read(), await wire.read(), await wire.read()];
      expect(answers.map(({ status }) => status)).toEqual([409, 409, 201]);
      for (const { body } of answers.slice(0, 2)) expect(body.toString()).toContain('outcome-not-stored');
      expect(JSON.parse(answers[2]!.body.toString())).toMatchObject({ run: 2 });
      expect(log.mock.calls.length).toBeLessThanOrEqual(1);
      log.mockRestore();
    });
  });
});

describe('the headers of a replay over HTTP/2', () => {
  it('are the first response’s, and what belongs to a request is the retry’s own', async () => {
    const postgres = await startPostgres();
    const app = await startApp({
      platform: 'fastify',
      fastify: { http2: true },
      databaseUrl: postgres.url,
      controllers: [HeadersController],
      configure: surround,
    });
    const session = connect(app.url);
    const headers = { ':method': 'POST', ':path': '/removes', 'idempotency-key': randomUUID() };
    const ask = async (origin: string): Promise<Record<string, unknown>> => {
      const stream = session.request({ ...headers, origin });
      const [answer] = await new Promise<[Record<string, unknown>]>((resolve) =>
        stream.once('response', (head) => resolve([head])),
      );
      stream.resume();
      await new Promise((resolve) => stream.once('close', resolve));
      return answer;
    };
    try {
      const [first, retry] = [await ask('https://a.example'), await ask('https://b.example')];
      expect(retry['idempotent-replayed']).toBe('true');
      expect(retry['access-control-allow-origin']).toBe('https://b.example');
      for (const name of OWN) expect(retry[name.toLowerCase()]).not.toBe(first[name.toLowerCase()]);
      expect([first['x-removed'], retry['x-removed'], retry['x-middleware']]).toEqual([
        undefined,
        undefined,
        'set',
      ]);
      expect(retry['content-length']).toBe(first['content-length']);
    } finally {
      session.close();
      await app.close();
      await postgres.stop();
    }
  });
});
