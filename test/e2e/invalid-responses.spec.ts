import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { Body, Controller, HttpException, Post, Res } from '@nestjs/common';
import fc from 'fast-check';
import { Idempotent } from '../../lib';
import { type Platform, type TestApp } from '../support/app';
import { appOnServers } from '../support/app-on-servers';
import { json, runs, text } from '../support/arbitraries';
import { comparable, isReplay, type Answer } from '../support/http';

let handled = 0;

interface FastifyReply {
  readonly raw: ServerResponse;
  header(name: string, value: string): unknown;
}
type AnyResponse = ServerResponse | FastifyReply;

const raw = (response: AnyResponse): ServerResponse => ('raw' in response ? response.raw : response);

interface Echo {
  readonly text: string;
  readonly status?: number;
}

/** What Node refuses to send. */
const NO_CHUNKS: Readonly<Record<string, readonly ['write' | 'end', unknown, string?]>> = {
  'write(1)': ['write', 1],
  'write(null)': ['write', null],
  'write(undefined)': ['write', undefined],
  'write({})': ['write', {}],
  'write of words': ['write', new Uint16Array(1)],
  'write of no encoding': ['write', 'text', 'none'],
  'end(5)': ['end', 5],
  'end({})': ['end', { a: 1 }],
  'end of a view': ['end', new DataView(new ArrayBuffer(3))],
  'end of no encoding': ['end', 'text', 'none'],
};

/** Puts what it is sent wherever a response can carry it. */
@Controller()
@Idempotent()
class EchoController {
  @Post('body')
  body(@Body() body: unknown): unknown {
    return { run: ++handled, echo: body };
  }

  @Post('header-value')
  headerValue(@Body() { text: value }: Echo, @Res({ passthrough: true }) response: AnyResponse): number {
    handled += 1;
    if ('raw' in response) response.header('X-Echo', value);
    else response.setHeader('X-Echo', value);
    return handled;
  }

  @Post('header-name')
  headerName(@Body() { text: name }: Echo, @Res({ passthrough: true }) response: AnyResponse): number {
    handled += 1;
    if ('raw' in response) response.header(name, 'echo');
    else response.setHeader(name, 'echo');
    return handled;
  }

  @Post('write-head')
  writeHead(@Body() { text: value, status = 200 }: Echo, @Res() response: AnyResponse): void {
    handled += 1;
    raw(response).writeHead(status, { 'X-Echo': value });
    raw(response).end(`run ${handled}`);
  }

  @Post('status-message')
  statusMessage(@Body() { text: message }: Echo, @Res({ passthrough: true }) response: AnyResponse): number {
    handled += 1;
    raw(response).statusMessage = message;
    return handled;
  }

  @Post('status')
  status(@Body() { status }: Echo, @Res() response: AnyResponse): void {
    handled += 1;
    raw(response).statusCode = status!;
    raw(response).end(`run ${handled}`);
  }

  @Post('chunk')
  chunk(@Body() { text: name }: Echo, @Res() response: AnyResponse): void {
    handled += 1;
    const [method, chunk, encoding] = NO_CHUNKS[name]!;
    raw(response)[method](chunk, encoding as BufferEncoding);
    raw(response).end();
  }

  @Post('thrown')
  thrown(@Body() { text: message, status = 409 }: Echo): never {
    handled += 1;
    throw new HttpException(message, status);
  }
}

const within = <T>(work: Promise<T>): Promise<T> => {
  let timer!: NodeJS.Timeout;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer within 5 s')), 5_000);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
};

describe.each<Platform>(['express', 'fastify'])('a response that Node may refuse on %s', (platform) => {
  let app: TestApp;

  const servers = appOnServers({
    platform,
    controllers: [EchoController],
  });
  beforeAll(() => ({ app } = servers));

  /** Sends one request twice; it is executed and replayed, or fails and gives its key back. */
  const twice = async (path: string, body: unknown): Promise<Answer> => {
    const headers = { 'idempotency-key': randomUUID() };
    handled = 0;
    const first = await within(app.call(path, { body, headers }));
    const second = await within(app.call(path, { body, headers }));
    for (const answer of [first, second]) expect(answer.headers['x-injected']).toBeUndefined();
    if (first.status === 400) {
      expect([comparable(second), handled]).toEqual([comparable(first), 0]);
    } else if (first.status < 500) {
      expect(comparable(second)).toEqual(comparable(first));
      expect([isReplay(second), handled]).toEqual([true, 1]);
    } else {
      expect([second.status, isReplay(second), handled]).toEqual([first.status, false, 2]);
    }
    return first;
  };

  const header = fc.oneof(
    text,
    fc
      .tuple(text, fc.constantFrom('\r\nX-Injected: yes', '\n X-Injected: yes', '\rX-Injected:yes', '\0'))
      .map((parts) => parts.join('')),
    fc.string({ unit: fc.integer({ min: 0x20, max: 0xff }).map((code) => String.fromCharCode(code)) }),
  );

  it.each(['/header-value', '/header-name', '/write-head', '/status-message', '/thrown'])(
    'is sent and replayed, or is a 500 that gives the key back, wherever it echoes any text: %s',
    async (path) => {
      await fc.assert(
        fc.asyncProperty(header, async (echoed) => {
          const { status } = await twice(path, { text: echoed });
          expect([200, 201, 409, 500]).toContain(status);
        }),
        runs(25),
      );
    },
  );

  it.each(['/status', '/write-head', '/thrown'])(
    'is a 500 that gives the key back for a status that HTTP has not: %s',
    async (path) => {
      const wrong = [-1, 99, 1000, 65_536, 'abc', '200\r\nX-Injected: yes'];
      // Nest takes these for none when they are thrown.
      const empty = [0, null, {}, [], true];
      for (const status of path === '/thrown' ? wrong : [...wrong, ...empty]) {
        const answer = await twice(path, { text: 'x', status });
        expect([status, answer.status]).toEqual([status, 500]);
      }
    },
  );

  it.each(Object.keys(NO_CHUNKS))(
    'is a 500 that gives the key back, not an empty success, for what Node does not send: %s',
    async (name) => {
      expect((await twice('/chunk', { text: name })).status).toBe(500);
    },
  );

  it.each([
    [200.5, 200],
    ['202', 202],
  ])('has the status that Node makes of %p', async (status, wanted) => {
    expect((await twice('/status', { status })).status).toBe(wanted);
  });

  it('is replayed byte for byte whatever JSON it echoes', async () => {
    await fc.assert(
      fc.asyncProperty(json, async (value) => {
        const { status, text: sent } = await twice('/body', [value]);
        // Fastify's parser refuses what could poison a prototype.
        if (status === 400 && platform === 'fastify') return;
        expect(status).toBe(201);
        expect(JSON.parse(sent)).toEqual({ run: 1, echo: JSON.parse(JSON.stringify([value])) as unknown });
      }),
      runs(25),
    );
  });
});
