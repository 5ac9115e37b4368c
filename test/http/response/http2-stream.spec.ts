import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import {
  connect,
  type ClientHttp2Session,
  type Http2ServerResponse,
  type IncomingHttpHeaders,
} from 'node:http2';
import { Controller, Header, Post, Res } from '@nestjs/common';
import { Idempotent } from '../../../lib';
import { startApp, type TestApp } from '../../support/app';

let runs = 0;

interface Reply {
  readonly raw: Http2ServerResponse;
  hijack(): void;
  header(name: string, value: string): void;
}

const OF_HTTP1 = {
  'Keep-Alive': 'timeout=5',
  'Proxy-Connection': 'close',
  'Transfer-Encoding': 'chunked',
  Upgrade: 'h2c',
};

function raw(reply: Reply): Http2ServerResponse {
  runs += 1;
  reply.hijack();
  return reply.raw;
}

@Controller()
@Idempotent({ maxBodySize: 20_000 })
class StreamsController {
  @Post('reply')
  reply(@Res({ passthrough: true }) reply: Reply): string {
    for (const [name, value] of Object.entries(OF_HTTP1)) reply.header(name, value);
    return `run ${++runs}`;
  }

  @Post('decorated')
  @Header('Keep-Alive', 'timeout=5')
  decorated(): string {
    return `run ${++runs}`;
  }

  @Post('write-head')
  writeHead(@Res() reply: Reply): void {
    raw(reply).writeHead(202, { ...OF_HTTP1, 'X-Run': '1' });
    reply.raw.end(`run ${runs}`);
  }

  @Post('too-large')
  tooLarge(@Res() reply: Reply): void {
    raw(reply).writeHead(202, OF_HTTP1);
    reply.raw.write('a'.repeat(30_000));
    reply.raw.end(`run ${runs}`);
  }

  @Post('respond')
  respond(@Res() reply: Reply): void {
    const { stream } = raw(reply);
    stream.respond({ ':status': 207, 'x-run': String(runs) });
    stream.write('on the ');
    stream.end('stream');
  }

  @Post('respond-without-body')
  respondWithoutBody(@Res() reply: Reply): void {
    raw(reply).stream.respond({ ':status': 207, 'x-run': String(runs) }, { endStream: true });
  }

  @Post('pipe')
  pipe(@Res() reply: Reply): void {
    raw(reply).writeHead(207, { 'X-Run': String(runs) });
    createReadStream(__filename).pipe(reply.raw.stream);
  }

  @Post('file')
  file(@Res() { raw: { stream } }: Reply): void {
    runs += 1;
    stream.respondWithFile(__filename);
  }

  @Post('trailers')
  trailers(@Res() { raw: { stream } }: Reply): void {
    runs += 1;
    stream.respond({}, { waitForTrailers: true });
  }
}

describe('a response over HTTP/2', () => {
  let app: TestApp;
  let session: ClientHttp2Session;

  beforeAll(async () => {
    app = await startApp({
      platform: 'fastify',
      fastify: { http2: true },
      inMemory: true,
      controllers: [StreamsController],
    });
    session = connect(app.url);
  });
  afterAll(async () => {
    session.close();
    await app.close();
  });
  beforeEach(() => (runs = 0));

  async function ask(path: string, key: string): Promise<{ headers: IncomingHttpHeaders; body: string }> {
    const stream = session.request({ ':method': 'POST', ':path': path, 'idempotency-key': key });
    let headers: IncomingHttpHeaders = {};
    let body = '';
    stream.on('response', (head) => (headers = head));
    stream.on('data', (chunk: Buffer) => (body += chunk.toString()));
    stream.on('error', () => undefined);
    stream.end();
    await new Promise((resolve) => stream.once('close', resolve));
    delete headers.date;
    return { headers, body };
  }

  it.each(['reply', 'decorated', 'write-head', 'respond', 'respond-without-body', 'pipe'])(
    'is sent and repeated without headers of HTTP/1.1, written on its stream or not: %s',
    async (way) => {
      const key = randomUUID();
      const first = await ask(`/${way}`, key);
      const { headers, body } = await ask(`/${way}`, key);
      expect(first.headers[':status']).toBeGreaterThanOrEqual(201);
      expect(headers[':status']).toBe(first.headers[':status']);
      expect(headers).toEqual({ ...first.headers, 'idempotent-replayed': 'true' });
      expect(body).toBe(first.body);
      expect(runs).toBe(1);
    },
  );

  it('is sent without them also if it is too large to be held', async () => {
    const { headers, body } = await ask('/too-large', randomUUID());
    expect(Object.entries(headers)).toEqual([[':status', 202]]);
    expect(body).toHaveLength(30_005);
  });

  it.each(['file', 'trailers'])('is not sent past the hold by the stream: %s', async (way) => {
    const key = randomUUID();
    for (const run of [1, 2]) {
      const { headers, body } = await ask(`/${way}`, key);
      expect(headers[':status']).toBe(500);
      expect(body).toContain('Internal server error');
      expect(runs).toBe(run);
    }
  });
});
