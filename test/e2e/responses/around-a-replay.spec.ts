import { Controller, Get, Post, Res, type INestApplication } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Idempotent } from '../../../lib';
import { startPostgres, type RunningPostgres } from '../../../servers';
import { startApp, type Platform, type TestApp } from '../../support/app';
import { eventually } from '../../support/eventually';
import { gate, type Gate } from '../../support/gate';
import { bytesOf, headerOf, isReplayed, Wire, type WireRequest, type WireResponse } from '../../support/wire';
import { LostLeaseController } from './lost-lease.controller';
import { raw, run, runs, type AnyResponse } from './runs';

/** What middleware and hooks saw, in order. */
let seen: string[] = [];
let hold: Gate | undefined;

/** As access loggers and metrics do. */
function logging(_: IncomingMessage, response: ServerResponse, next: () => void): void {
  response.on('finish', () => seen.push(`finish ${response.statusCode} ${response.writableFinished}`));
  response.on('close', () => seen.push(`close ${response.statusCode}`));
  next();
}

/** As `response-time` and `on-headers` do. */
function atHead(_: IncomingMessage, response: ServerResponse, next: () => void): void {
  const { writeHead } = response;
  response.writeHead = ((...args: Parameters<ServerResponse['writeHead']>) => {
    response.setHeader('X-At-Head', randomUUID());
    return writeHead.apply(response, args);
  }) as ServerResponse['writeHead'];
  next();
}

async function surround(app: INestApplication, platform: Platform): Promise<void> {
  app.use(logging);
  app.use(atHead);
  if (platform === 'express') return;
  const fastify = (app as NestFastifyApplication).getHttpAdapter().getInstance();
  fastify.addHook('onSend', async (_request, reply, payload) => {
    reply.header('X-On-Send', randomUUID());
    return payload;
  });
  fastify.addHook('onResponse', async (_request, reply) => {
    seen.push(`onResponse ${reply.statusCode} ${reply.elapsedTime > 0}`);
  });
}

@Idempotent()
@Controller()
class AroundController {
  @Post('plain')
  async plain(): Promise<unknown> {
    const value = { run: run() };
    await hold?.pass();
    return value;
  }

  @Post('trailers')
  trailers(@Res() response: AnyResponse): void {
    const res = raw(response);
    res.setHeader('Transfer-Encoding', 'chunked');
    res.setHeader('Trailer', 'X-Checksum');
    res.write(run());
    res.addTrailers({ 'X-Checksum': '123' });
    res.end();
  }

  @Post('early-hints')
  earlyHints(@Res() response: AnyResponse): void {
    const res = raw(response);
    res.writeEarlyHints({ link: '</style.css>; rel=preload' });
    res.end(run());
  }

  @Post('bad-status')
  badStatus(@Res() response: AnyResponse): void {
    run();
    raw(response).writeHead(99).end();
  }

  @Post('bad-reason')
  badReason(@Res() response: AnyResponse): void {
    run();
    raw(response).writeHead(200, 'line\r\nbreak').end();
  }

  @Get('constant')
  @Idempotent()
  constant(): unknown {
    runs.handler += 1;
    return { constant: true };
  }
}

describe.each<Platform>(['express', 'fastify'])('around a replay on %s', (platform) => {
  let postgres: RunningPostgres;
  let app: TestApp;
  let wire: Wire;
  let headers: Record<string, string>;

  beforeAll(async () => {
    postgres = await startPostgres();
    app = await startApp({
      platform,
      databaseUrl: postgres.url,
      controllers: [AroundController, LostLeaseController],
      configure: (application) => surround(application, platform),
    });
  });
  afterAll(async () => {
    await app.close();
    await postgres.stop();
  });
  beforeEach(async () => {
    runs.handler = 0;
    seen = [];
    hold = undefined;
    headers = { 'Idempotency-Key': randomUUID() };
    wire = await Wire.open(app.url);
  });
  afterEach(() => wire.leave());

  async function twice(path: string, more: Partial<WireRequest> = {}): Promise<[WireResponse, WireResponse]> {
    const request = { path, headers, ...more };
    return [await wire.ask(request), await wire.ask(request)];
  }

  it('access logs and metrics see each response end once, with its status', async () => {
    await twice('/plain');
    const ofOne = [
      'finish 201 true',
      'close 201',
      ...(platform === 'fastify' ? ['onResponse 201 true'] : []),
    ];
    await eventually(() => expect([...seen].sort()).toEqual([...ofOne, ...ofOne].sort()));
  });

  it('a header that middleware adds as a response goes out is that response’s own; all others are the first’s', async () => {
    const [first, retry] = await twice('/plain');
    expect(isReplayed(retry)).toBe(true);
    const own = (response: WireResponse): string | undefined => headerOf(response.headerLines, 'x-at-head');
    expect(own(first)).toMatch(/^[-0-9a-f]{36}$/);
    expect(own(retry)).toMatch(/^[-0-9a-f]{36}$/);
    expect(own(retry)).not.toBe(own(first));
    expect(bytesOf(retry, ['x-at-head'])).toBe(bytesOf(first, ['x-at-head']));
  });

  it('requests that were pipelined get their responses in order', async () => {
    hold = gate();
    wire.send({ path: '/plain', headers });
    wire.send({ path: '/plain', headers });
    wire.send({ path: '/plain', headers: { 'Idempotency-Key': randomUUID() } });
    await hold.reached();
    hold.open();
    const [first, retry, other] = [await wire.read(), await wire.read(), await wire.read()];
    expect([first, retry, other].map(isReplayed)).toEqual([false, true, false]);
    expect(retry.body).toEqual(first.body);
    expect(other.body).not.toEqual(first.body);
    expect(runs.handler).toBe(2);
  });

  it('a connection that the client wants closed is closed after either response', async () => {
    const request = { path: '/plain', headers: { ...headers, Connection: 'close' } };
    const first = await wire.ask(request);
    expect((await wire.end()).length).toBe(0);
    const another = await Wire.open(app.url);
    const retry = await another.ask(request);
    expect((await another.end()).length).toBe(0);
    expect(bytesOf(retry, ['x-at-head'])).toBe(bytesOf(first, ['x-at-head']));
  });

  it('a response of which a part went out is cut off, if another owner decides what every retry gets', async () => {
    await expect(wire.ask({ path: '/lost-lease', headers })).rejects.toThrow(/ended the connection/);
    expect(runs.handler).toBe(1);
  });

  it('a response that is replaced leaves nothing of itself, not even its reason phrase', async () => {
    const response = await wire.ask({ path: '/lost-lease/held', headers });
    expect(response.statusLine).toBe('HTTP/1.1 409 Conflict');
    expect(headerOf(response.headerLines, 'x-held')).toBeUndefined();
    expect(response.body.toString()).toContain('in-flight');
    expect(runs.handler).toBe(1);
  });

  it('trailers come with the first response only', async () => {
    const [first, retry] = await twice('/trailers');
    expect(first.trailerLines).toEqual(['X-Checksum: 123']);
    expect(retry.trailerLines).toEqual([]);
    expect(headerOf(retry.headerLines, 'trailer')).toBeUndefined();
    expect(headerOf(retry.headerLines, 'content-length')).toBe(String(first.body.length));
    expect(retry.body).toEqual(first.body);
  });

  it('interim responses come at once, and only from the handler', async () => {
    const [first, retry] = await twice('/early-hints');
    expect(first.interim).toEqual(['HTTP/1.1 103 Early Hints']);
    expect(retry.interim).toEqual([]);
    expect(bytesOf(retry, ['x-at-head'])).toBe(bytesOf(first, ['x-at-head']));
  });

  it.each(['/bad-status', '/bad-reason'])(
    'a status line that cannot be sent fails for the writer, and nothing is recorded: %s',
    async (path) => {
      const [first, retry] = await twice(path);
      expect([first.status, retry.status]).toEqual([500, 500]);
      expect(first.statusLine).toBe('HTTP/1.1 500 Internal Server Error');
      expect(runs.handler).toBe(2);
    },
  );

  it('`If-None-Match` of a retry does not change its response', async () => {
    const first = await wire.ask({ method: 'GET', path: '/constant', headers });
    const etag = headerOf(first.headerLines, 'etag') ?? '"none"';
    const retry = await wire.ask({
      method: 'GET',
      path: '/constant',
      headers: { ...headers, 'If-None-Match': etag },
    });
    expect(bytesOf(retry, ['x-at-head'])).toBe(bytesOf(first, ['x-at-head']));
    expect(runs.handler).toBe(1);
  });

  if (platform === 'express') {
    it('a 304 is repeated as a 304', async () => {
      const { headerLines } = await wire.ask({ method: 'GET', path: '/constant' });
      const conditional = { ...headers, 'If-None-Match': headerOf(headerLines, 'etag')! };
      const [first, retry] = await twice('/constant', { method: 'GET', headers: conditional });
      expect(first.status).toBe(304);
      expect(isReplayed(retry)).toBe(true);
      expect(bytesOf(retry, ['x-at-head'])).toBe(bytesOf(first, ['x-at-head']));
    });
  }
});
