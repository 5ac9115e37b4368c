import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { Controller, Get, Post, Req, type INestApplication } from '@nestjs/common';
import type { FastifyInstance } from 'fastify';
import { Idempotent } from '../../lib';
import { type Platform, type TestApp } from '../support/app';
import { appOnServers } from '../support/app-on-servers';
import { eventually } from '../support/eventually';
import { gate, type Gate } from '../support/gate';
import { bytesOfRequest, RawClient, sent, type RawRequest } from '../support/raw-client';

let handled: string[] = [];
let held: Gate | undefined;

type AnyRequest = IncomingMessage & { readonly raw?: IncomingMessage; readonly originalUrl: string };

@Controller()
class WireController {
  @Get('read')
  @Idempotent()
  read(@Req() request: AnyRequest): unknown {
    return this.answer(request);
  }

  @Post('held')
  @Idempotent({ inFlight: 'reject' })
  async held(@Req() request: AnyRequest): Promise<unknown> {
    await held?.pass();
    return this.answer(request);
  }

  /** Reads its body itself, as uploads are read. */
  @Post('upload')
  @Idempotent()
  async upload(@Req() request: AnyRequest): Promise<unknown> {
    let size = 0;
    handled.push('upload');
    for await (const chunk of request.raw ?? request) size += (chunk as Buffer).length;
    return { size, nonce: randomUUID() };
  }

  @Post('*')
  @Idempotent()
  post(@Req() request: AnyRequest): unknown {
    return this.answer(request);
  }

  private answer({ originalUrl }: AnyRequest): unknown {
    handled.push(originalUrl);
    return { nonce: randomUUID() };
  }
}

const JSON_TYPE = ['Content-Type', 'application/json'] as const;
const UPLOAD_TYPE = ['Content-Type', 'multipart/form-data; boundary=x'] as const;

describe.each<Platform>(['express', 'fastify'])('a client of %s', (platform) => {
  let app: TestApp;
  let client: RawClient;
  let key: string;

  const servers = appOnServers({
    platform,
    controllers: [WireController],
    configure: (nest) => {
      if (platform === 'fastify') leaveUploadsUnread(nest);
    },
  });
  beforeAll(() => ({ app } = servers));
  beforeEach(async () => {
    handled = [];
    held = undefined;
    key = randomUUID();
    client = await RawClient.open(app.url);
  });
  afterEach(() => client.close());

  const request = (more: Partial<RawRequest> = {}): RawRequest => ({
    target: '/a',
    body: '{"a":1}',
    ...more,
    headers: [JSON_TYPE, ['Idempotency-Key', key], ...(more.headers ?? [])],
  });
  const half = (bytes: Buffer): [Buffer, Buffer] => [bytes.subarray(0, -3), bytes.subarray(-3)];

  it('that sends its body slowly holds no key while it does', async () => {
    const [most, rest] = half(bytesOfRequest(request()));
    client.write(most);
    const quick = await RawClient.ask(app.url, request());
    expect([quick.status, quick.replayed]).toEqual([201, false]);
    client.write(rest);
    expect(sent(await client.answer())).toEqual(sent(quick));
    expect(handled).toEqual(['/a']);
  });

  it('that leaves within its body has run nothing', async () => {
    const [most] = half(bytesOfRequest(request()));
    client.write(most);
    client.close();
    expect(await RawClient.ask(app.url, request())).toMatchObject({ status: 201, replayed: false });
    expect(handled).toEqual(['/a']);
  });

  it('that leaves within an upload which its handler reads gives the key back', async () => {
    const upload: RawRequest = {
      target: '/upload',
      headers: [UPLOAD_TYPE, ['Idempotency-Key', key]],
      body: 'x'.repeat(300_000),
    };
    client.write(bytesOfRequest(upload).subarray(0, 200_000));
    await eventually(() => expect(handled).toEqual(['upload']));
    client.close();
    const again = await RawClient.ask(app.url, upload);
    expect([again.status, again.replayed]).toEqual([201, false]);
    expect(again.text).toContain('"size":300000');
  });

  it('that pipelines one key on one connection gets one response, as often as it asks, in order', async () => {
    const ask = bytesOfRequest(request());
    const other = bytesOfRequest({ ...request(), target: '/b' });
    client.write(Buffer.concat([ask, ask, other, ask]));
    const [first, second, third, fourth] = [
      await client.answer(),
      await client.answer(),
      await client.answer(),
      await client.answer(),
    ];
    expect(first.status).toBe(201);
    for (const again of [second, fourth]) expect(sent(again)).toEqual(sent(first));
    expect(third.text).not.toBe(first.text);
    expect([handled.toSorted(), client.unread]).toEqual([['/a', '/b'], 0]);
  });

  it('that waits for 100 Continue is told to go on, in a retry too', async () => {
    for (const replayed of [false, true]) {
      const [head, body] = bytesOfRequest(request({ headers: [['Expect', '100-continue']] }))
        .toString('latin1')
        .split('\r\n\r\n');
      client.write(`${head}\r\n\r\n`);
      await once(client.socket, 'data');
      client.write(body!);
      expect(await client.answer()).toMatchObject({ status: 201, replayed });
    }
    expect(handled).toEqual(['/a']);
  });

  it('that speaks HTTP/1.0 without Host, or sends chunks, is given the same response', async () => {
    const old = await RawClient.ask(app.url, request({ version: '1.0' }));
    expect(old.status).toBe(201);
    for (const again of [
      await RawClient.ask(app.url, request({ version: '1.0' })),
      await RawClient.ask(app.url, request()),
      await RawClient.ask(app.url, request({ chunked: 1 })),
      await RawClient.ask(app.url, request({ chunked: 1_000 })),
    ]) {
      expect(again.replayed).toBe(true);
      expect(sent(again)).toEqual(sent(old));
    }
    expect(handled).toEqual(['/a']);
  });

  it('whose requests end in replays and refusals can go on using its connection', async () => {
    held = gate();
    const running = RawClient.ask(app.url, request({ target: '/held' }));
    await held.reached();
    const statuses: number[] = [];
    for (const each of [
      request(),
      request(),
      request({ body: '{"a":2}' }),
      request({ target: '/held' }),
      request({ headers: [['Idempotency-Key', 'another']] }),
      { target: '/a', body: '{"a":1}', headers: [JSON_TYPE, ['Idempotency-Key', '']] } as const,
      request(),
    ]) {
      statuses.push((await client.ask(each)).status);
      expect(client.unread).toBe(0);
    }
    expect(statuses).toEqual([201, 201, 422, 409, 400, 400, 201]);
    held.open();
    expect((await running).status).toBe(201);
    expect(handled).toEqual(['/a', '/held']);
  });

  it('whose upload is not read, because it is replayed or refused, can go on using its connection', async () => {
    const upload = (target: string): RawRequest => ({
      target,
      headers: [UPLOAD_TYPE, ['Idempotency-Key', key]],
      body: 'x'.repeat(1_000_000),
    });
    const first = await client.ask(upload('/upload'));
    expect(first.status).toBe(201);
    const second = await client.ask(upload('/upload'));
    expect(sent(second)).toEqual(sent(first));
    expect((await client.ask(upload('/upload?b'))).status).toBe(422);
    expect((await client.ask(request())).status).toBe(201);
    expect([handled, client.unread]).toEqual([['upload', '/a'], 0]);
  });

  it('that asks by HEAD gets no body, and no answer of GET', async () => {
    const read = (method: string) =>
      client.ask({ method, target: '/read', headers: [['Idempotency-Key', key]] });
    const [first, second] = [await read('HEAD'), await read('HEAD')];
    expect([first.status, first.body.length]).toEqual([200, 0]);
    expect(sent(second)).toEqual(sent(first));
    const got = await read('GET');
    expect([got.status, got.replayed]).toEqual([200, false]);
    expect(sent(await read('GET'))).toEqual(sent(got));
    expect([handled, client.unread]).toEqual([['/read', '/read'], 0]);
  });

  it('that names the server in its target is given what it was given without', async () => {
    const absolute = await client.ask(request({ target: 'http://user:secret@test/a' }));
    const plain = await client.ask(request());
    expect([absolute.status, plain.replayed]).toEqual([201, true]);
    expect(sent(plain)).toEqual(sent(absolute));
    expect(handled).toHaveLength(1);
  });

  it('whose paths are odd gets an answer of each path and of no other', async () => {
    const targets = [
      '/a',
      '//a',
      '/a/',
      '/A',
      '/%61',
      '/a%00',
      '/a%2e%2e',
      '/../a',
      '/%2e%2e/a',
      '/a%2Fb',
      '/a%2fb',
      '/a/b',
      '/a;b',
      '/a%20b',
      '/%ff',
      '/%zz',
      '/a%0d%0aX-Injected:%20yes',
      '/a?',
      '/a?b',
      '/a?b#c',
      '/a?b=%00',
      '/__proto__',
      `/${'x'.repeat(12_000)}`,
      `/a?${'x'.repeat(12_000)}`,
    ];
    /** Other spellings of one path (RFC 3986, 6.2.2), and of no query. */
    const sameAs: Readonly<Record<string, string>> = {
      '/%61': '/a',
      '/%2e%2e/a': '/../a',
      '/a%2fb': '/a%2Fb',
      '/a?': '/a',
    };
    const nonces = new Map<string, string>();
    for (const target of targets) {
      const [first, second] = [await client.ask(request({ target })), await client.ask(request({ target }))];
      expect(sent(second)).toEqual(sent(first));
      expect(JSON.stringify(first.headers)).not.toContain('njected');
      const same = sameAs[target];
      if (same !== undefined) expect([first.replayed, first.text]).toEqual([true, nonces.get(same)]);
      else if (first.status === 201 && !first.replayed) nonces.set(target, first.text);
      else expect([400, 404, 422]).toContain(first.status);
    }
    expect(new Set(nonces.values()).size).toBe(nonces.size);
    expect(nonces.size).toBeGreaterThan(12);
    expect(handled).toHaveLength(nonces.size);
  });

  it.each([
    ['a path longer than heads may be', `POST /${'x'.repeat(20_000)} HTTP/1.1\r\nHost: a\r\n\r\n`, 431],
    ['NUL in its path', 'POST /a\0b HTTP/1.1\r\nHost: a\r\n\r\n', 400],
    ['NUL in its query', 'POST /a?b=\0 HTTP/1.1\r\nHost: a\r\n\r\n', 400],
    ['NUL in its key', 'POST /a HTTP/1.1\r\nHost: a\r\nIdempotency-Key: a\0b\r\n\r\n', 400],
    ['a key that is folded', 'POST /a HTTP/1.1\r\nHost: a\r\nIdempotency-Key: a\r\n b\r\n\r\n', 400],
    [
      'two lengths',
      'POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\nIdempotency-Key: a\r\n\r\nab',
      400,
    ],
    [
      'a length and chunks',
      'POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nIdempotency-Key: a\r\n\r\n0\r\n\r\n',
      400,
    ],
  ])('that sends %s is refused, and no handler runs', async (_, bytes, status) => {
    client.write(Buffer.from(bytes, 'latin1'));
    expect((await client.answer()).status).toBe(status);
    expect(handled).toEqual([]);
  });
});

/** As Express does: the handler is called before the body is read. */
function leaveUploadsUnread(nest: INestApplication): void {
  const fastify = nest.getHttpAdapter().getInstance() as FastifyInstance;
  fastify.addContentTypeParser('multipart/form-data', (_request, _payload, done) => done(null));
}
