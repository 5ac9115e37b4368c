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
import type { TestApp } from '../../support/app';
import { eventually } from '../../support/eventually';
import type { WireRequest } from '../../support/wire';
import { masked, uncompressed } from './masked';
import { forgetRuns, runs } from './runs';
import { STAGE_NAMES, startStage, type StageName } from './stages';
import { TABLE } from './table';

interface Http2Response {
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** Nest's Express platform serves no HTTP/2. */
const ROWS = TABLE.filter(({ only = 'fastify' }) => only === 'fastify');

describe('how a response is repeated over HTTP/2', () => {
  let postgres: RunningPostgres;
  const apps: TestApp[] = [];
  const sessions = new Map<StageName, ClientHttp2Session>();
  let askedForReason: jest.SpyInstance;

  beforeAll(async () => {
    postgres = await startPostgres();
    for (const name of STAGE_NAMES) {
      const app = await startStage(name, 'fastify', { fastify: { http2: true }, databaseUrl: postgres.url });
      apps.push(app);
      sessions.set(name, connect(app.url));
    }
    askedForReason = jest.spyOn(Http2ServerResponse.prototype, 'statusMessage', 'get');
  });
  afterAll(async () => {
    for (const session of sessions.values()) session.close();
    for (const app of apps) await app.close();
    await postgres.stop();
  });
  beforeEach(forgetRuns);

  /** Undefined if the stream ended without a response, or in the middle of one. */
  async function ask(
    { method = 'POST', path, headers: its, body }: WireRequest,
    key?: string,
    stage: StageName = 'plain',
  ): Promise<Http2Response | undefined> {
    const stream = sessions.get(stage)!.request({
      ':method': method,
      ':path': path,
      ...its,
      ...(key === undefined ? {} : { 'idempotency-key': key }),
    });
    let headers: IncomingHttpHeaders | undefined;
    const chunks: Buffer[] = [];
    stream.on('response', (head) => (headers = head));
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', () => undefined);
    stream.end(body);
    await new Promise((resolve) => stream.once('close', resolve));
    if (!headers || stream.rstCode !== constants.NGHTTP2_NO_ERROR) return undefined;
    return { headers, body: Buffer.concat(chunks) };
  }

  it.each(ROWS)('$style: the first response is as without a key; a retry: $retry', async (row) => {
    const key = randomUUID();
    const keyless = await ask(row.request, undefined, row.stage);
    forgetRuns();
    const first = await ask(row.request, key, row.stage);
    const retry = await ask(row.request, key, row.stage);
    // Where a part was sent, Node ends a destroyed response as it does a whole one.
    if (row.first !== 'cut off') {
      expect(first?.headers[':status']).toBe(row.first);
      expect(seen(first)).toEqual(seen(keyless));
    }
    if (row.retry === 'the same') {
      expect(retry?.headers['idempotent-replayed']).toBe('true');
      expect(compared(retry)).toEqual(compared(first));
    } else if (row.retry === '409, not stored') expect(retry?.headers[':status']).toBe(409);
    expect(runs.handler).toBe(row.retry === 'runs again' ? 2 : (row.runs ?? 1));
    expect(runs.interceptor).toBe(row.interceptorRuns ?? 0);
  });

  it('is cut off, if a part went out and another owner decides what every retry gets', async () => {
    expect(await ask({ path: '/lost-lease' }, randomUUID())).toBeUndefined();
    expect(runs.handler).toBe(1);
  });

  it('is never asked for a reason phrase, for which Node would print a warning', () => {
    expect(askedForReason).not.toHaveBeenCalled();
    askedForReason.mockRestore();
  });

  it('finds the outcome of a request that its client gave up', async () => {
    const key = randomUUID();
    const path = '/values/promise';
    const stream = sessions
      .get('plain')!
      .request({ ':method': 'POST', ':path': path, 'idempotency-key': key });
    stream.close(constants.NGHTTP2_CANCEL);
    await once(stream, 'close');
    await eventually(() => expect(runs.handler).toBe(1));
    const retry = await ask({ path }, key);
    expect(retry?.headers[':status']).toBe(201);
    expect(retry?.headers['idempotent-replayed']).toBe('true');
    expect(runs.handler).toBe(1);
  });
});

const MAY_DIFFER = ['date', 'idempotent-replayed'];
const OF_ONE_CALLER = ['set-cookie', 'www-authenticate'];

function compared(response: Http2Response | undefined): unknown {
  return { headers: headersBut([...MAY_DIFFER, ...OF_ONE_CALLER], response), body: response?.body };
}

/** But for what no two runs have in common. The length is that of the body, where there is one. */
function seen(response: Http2Response | undefined): unknown {
  const { headers = {}, body = Buffer.alloc(0) } = response ?? {};
  return {
    headers: masked(JSON.stringify(headersBut(['date', 'etag', 'content-length'], response))),
    body: masked(uncompressed(body, headers['content-encoding'])),
  };
}

function headersBut(left: readonly string[], response: Http2Response | undefined): unknown {
  return Object.entries(response?.headers ?? {}).filter(([name]) => !left.includes(name));
}
