import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import {
  connect,
  constants,
  Http2ServerResponse,
  type ClientHttp2Session,
  type IncomingHttpHeaders,
} from 'node:http2';
import { startPostgres, type RunningPostgres } from '../../../servers';
import { startApp, type TestApp } from '../../support/app';
import { eventually } from '../../support/eventually';
import { LostLeaseController } from './lost-lease.controller';
import { ResponsesController } from './responses.controller';
import { runs } from './runs';
import { StreamsController } from './streams.controller';
import { TABLE } from './table';
import { ValuesController } from './values.controllers';

interface Http2Response {
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

const PATHS = /^\/(values|streams|responses)\//;
const ROWS = TABLE.filter(({ request, stage, only = 'fastify' }) => {
  // The others need an application that is set up otherwise.
  return only === 'fastify' && !stage && PATHS.test(request.path) && !/render|raw-body/.test(request.path);
});

describe('how a response is repeated over HTTP/2', () => {
  let postgres: RunningPostgres;
  let app: TestApp;
  let session: ClientHttp2Session;
  let askedForReason: jest.SpyInstance;

  beforeAll(async () => {
    postgres = await startPostgres();
    app = await startApp({
      platform: 'fastify',
      fastify: { http2: true },
      databaseUrl: postgres.url,
      controllers: [ValuesController, StreamsController, ResponsesController, LostLeaseController],
    });
    session = connect(app.url);
    askedForReason = jest.spyOn(Http2ServerResponse.prototype, 'statusMessage', 'get');
  });
  afterAll(async () => {
    session.close();
    await app.close();
    await postgres.stop();
  });
  beforeEach(() => {
    runs.handler = 0;
  });

  /** Undefined if the stream ended without a response, or in the middle of one. */
  async function ask(method: string, path: string, key: string): Promise<Http2Response | undefined> {
    const stream = session.request({ ':method': method, ':path': path, 'idempotency-key': key });
    let headers: IncomingHttpHeaders | undefined;
    const chunks: Buffer[] = [];
    stream.on('response', (its) => (headers = its));
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', () => undefined);
    stream.end();
    await new Promise((resolve) => stream.once('close', resolve));
    if (!headers || stream.rstCode !== constants.NGHTTP2_NO_ERROR) return undefined;
    return { headers, body: Buffer.concat(chunks).toString('latin1') };
  }

  it.each(ROWS)(
    '$style: a retry gets $retry',
    async ({ request: { method = 'POST', path }, retry: expected, first: status }) => {
      const key = randomUUID();
      const first = await ask(method, path, key);
      const retry = await ask(method, path, key);
      // Where a part was sent, Node ends a destroyed response as it does a whole one.
      if (status !== 'cut off') expect(first?.headers[':status']).toBe(status);
      if (expected === 'the same') {
        expect(retry?.headers['idempotent-replayed']).toBe('true');
        expect(compared(retry)).toEqual(compared(first));
      } else if (expected === '409, not stored') expect(retry?.headers[':status']).toBe(409);
      expect(runs.handler).toBe(expected === 'runs again' ? 2 : 1);
    },
  );

  it('is cut off, if a part went out and another owner decides what every retry gets', async () => {
    expect(await ask('POST', '/lost-lease', randomUUID())).toBeUndefined();
    expect(runs.handler).toBe(1);
  });

  it('is never asked for a reason phrase, for which Node would print a warning', () => {
    expect(askedForReason).not.toHaveBeenCalled();
    askedForReason.mockRestore();
  });

  it('finds the outcome of a request that its client gave up', async () => {
    const key = randomUUID();
    const stream = session.request({ ':method': 'POST', ':path': '/values/promise', 'idempotency-key': key });
    stream.close(constants.NGHTTP2_CANCEL);
    await once(stream, 'close');
    await eventually(() => expect(runs.handler).toBe(1));
    const retry = await ask('POST', '/values/promise', key);
    expect(retry?.headers[':status']).toBe(201);
    expect(retry?.headers['idempotent-replayed']).toBe('true');
    expect(runs.handler).toBe(1);
  });
});

const OWN = new Set(['date', 'idempotent-replayed', 'set-cookie', 'www-authenticate']);

/** But for what may differ, and for what is the first caller's own. */
function compared(response: Http2Response | undefined): unknown {
  const headers = Object.entries(response?.headers ?? {}).filter(([name]) => !OWN.has(name));
  return { headers, body: response?.body };
}
