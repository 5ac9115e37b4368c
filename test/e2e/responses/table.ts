import type { Platform } from '../../support/app';
import type { WireRequest } from '../../support/wire';
import type { StageName } from './stages';

/** What a retry gets: the first response, a 409 that says why not, or a run of its own. */
export type Retry = 'the same' | '409, not stored' | 'runs again';

/** One row of docs/guarantees/responses.md, and one test on each platform. */
export interface Row {
  readonly style: string;
  readonly request: WireRequest;
  /** Status of the first response, unless the connection ends before it is whole. */
  readonly first: number | 'cut off';
  readonly retry: Retry;
  readonly notes?: string;
  /** What the first response's body has to look like, where the status does not tell enough. */
  readonly body?: RegExp;
  readonly stage?: StageName;
  readonly interceptorRuns?: number;
  /** How often its handler counts one run. @default 1 */
  readonly runs?: number;
  /** Where the other platform has no such thing. */
  readonly only?: Platform;
}

const RUN = /run 1 [-0-9a-f]{36}/;
const TIMESTAMPED = /^\{"error":"run 1 [-0-9a-f]{36}","timestamp":"[-0-9T:.]{23}Z"\}$/;
const ENVELOPE = /^\{"data":"run 1 [-0-9a-f]{36}","id":"[-0-9a-f]{36}"\}$/;

const post = (path: string, more: Partial<WireRequest> = {}): WireRequest => ({
  path,
  headers: { 'Content-Type': 'application/json' },
  body: '{}',
  ...more,
});
const bare = (method: string, path: string): WireRequest => ({ method, path });

/** More than a socket takes at once, so that a retry that leaves it unread has something to leave. */
const MULTIPART: Partial<WireRequest> = {
  headers: { 'Content-Type': 'multipart/form-data; boundary=border' },
  body: [
    '--border',
    'Content-Disposition: form-data; name="file"; filename="leads.csv"',
    'Content-Type: text/csv',
    '',
    'x'.repeat(300_000),
    '--border--',
    '',
  ].join('\r\n'),
};
const GZIP: Partial<WireRequest> = {
  headers: { 'Content-Type': 'application/json', 'Accept-Encoding': 'gzip' },
};

export const TABLE: readonly Row[] = [
  { style: 'object', request: post('/values/object'), first: 201, retry: 'the same', body: RUN },
  { style: 'promise', request: post('/values/promise'), first: 201, retry: 'the same', body: RUN },
  { style: 'Observable', request: post('/values/observable'), first: 201, retry: 'the same', body: RUN },
  {
    style: 'Observable of several values',
    request: post('/values/observable-of-many'),
    first: 201,
    retry: 'the same',
    notes: 'Nest sends the last one',
    body: RUN,
  },
  { style: 'string', request: post('/values/string'), first: 201, retry: 'the same', body: RUN },
  {
    style: '`Buffer`',
    request: post('/values/buffer'),
    first: 201,
    retry: 'the same',
    notes: 'Nest sends it as JSON on Express, as bytes on Fastify',
  },
  { style: 'number', request: post('/values/number'), first: 201, retry: 'the same', body: /^0\.\d+$/ },
  { style: 'boolean', request: post('/values/boolean'), first: 201, retry: 'the same', body: /^false$/ },
  { style: '`null`', request: post('/values/null'), first: 201, retry: 'the same' },
  { style: 'nothing', request: post('/values/void'), first: 201, retry: 'the same', body: /^$/ },
  {
    style: 'nothing, `@HttpCode(204)`',
    request: bare('DELETE', '/values/void'),
    first: 204,
    retry: 'the same',
  },
  {
    style: 'class instance with `@Exclude()`, `ClassSerializerInterceptor` in the root module',
    request: post('/values/account'),
    first: 201,
    retry: 'the same',
    notes: 'what is excluded is in neither',
    body: /^\{"data":\{"name":"run 1 [-0-9a-f]{36}"\},"id":/,
    stage: 'root module',
    interceptorRuns: 1,
  },
  {
    style: 'Observable of a list of them',
    request: post('/values/accounts'),
    first: 201,
    retry: 'the same',
    body: /^\{"data":\[\{"name":"run 1 [-0-9a-f]{36}"\},\{"name":"[^"]*"\}\],"id":/,
    stage: 'root module',
    interceptorRuns: 1,
    runs: 2,
  },
  {
    style: 'larger than `maxBodySize`',
    request: post('/values/too-large'),
    first: 201,
    retry: '409, not stored',
    body: RUN,
  },
  { style: '`@Header()`', request: post('/values/header'), first: 201, retry: 'the same', body: RUN },
  { style: '`@HttpCode()`', request: post('/values/code'), first: 202, retry: 'the same', body: RUN },
  { style: '`@Redirect()`', request: post('/values/redirect'), first: 303, retry: 'the same' },
  {
    style: '`@Redirect()`, target from the handler',
    request: post('/values/redirect-dynamic'),
    first: 307,
    retry: 'the same',
  },
  { style: '`@Render()`', request: post('/values/render'), first: 201, retry: 'the same', body: /^<p>run 1/ },
  { style: 'PUT', request: bare('PUT', '/values/put'), first: 200, retry: 'the same', body: RUN },
  { style: 'PATCH', request: bare('PATCH', '/values/patch'), first: 200, retry: 'the same', body: RUN },
  { style: 'DELETE', request: bare('DELETE', '/values/delete'), first: 200, retry: 'the same', body: RUN },
  {
    style: 'GET, `@Idempotent()` on the method',
    request: bare('GET', '/values/get'),
    first: 200,
    retry: 'the same',
    notes: '`If-None-Match` of a retry is not heeded',
    body: RUN,
  },
  {
    style: 'HEAD, `@Idempotent()` on the method',
    request: bare('HEAD', '/values/head'),
    first: 200,
    retry: 'the same',
  },
  {
    style: 'request-scoped controller',
    request: post('/request-scoped'),
    first: 201,
    retry: 'the same',
    body: RUN,
  },
  {
    style: '`rawBody: true`',
    request: post('/values/raw-body'),
    first: 201,
    retry: 'the same',
    body: /"raw":"\{\}"/,
  },
  {
    style: 'file upload (`FileInterceptor`)',
    request: post('/uploads', MULTIPART),
    first: 201,
    retry: 'the same',
    notes: "the file is not part of the fingerprint, and a retry's file is not read",
    body: /"size":300000/,
  },
  {
    style: "`@Res()`, written to Node's response",
    request: post('/responses/res'),
    first: 207,
    retry: 'the same',
    notes: 'with its own reason phrase',
    body: /^first, run 1/,
  },
  {
    style: '`@Res()`, `response.send()`',
    request: post('/responses/res-send'),
    first: 202,
    retry: 'the same',
    body: RUN,
  },
  {
    style: '`response.sendFile()`',
    request: post('/responses/send-file'),
    first: 201,
    retry: 'the same',
    notes: 'Express',
    body: /^<p>/,
    only: 'express',
  },
  {
    style: '`reply.hijack()`, written to `reply.raw`',
    request: post('/responses/hijack'),
    first: 201,
    retry: 'the same',
    notes: 'Fastify',
    body: RUN,
    only: 'fastify',
  },
  {
    style: '`@Res({ passthrough: true })`',
    request: post('/responses/passthrough'),
    first: 201,
    retry: 'the same',
    body: /passed/,
  },
  {
    style: '`Set-Cookie` (several), `WWW-Authenticate`',
    request: post('/responses/cookies'),
    first: 201,
    retry: 'the same',
    notes: 'except these two, which belong to the first caller',
    body: RUN,
  },
  {
    style: '`HttpException` that is recorded (409)',
    request: post('/responses/conflict'),
    first: 409,
    retry: 'the same',
    body: RUN,
  },
  {
    style: 'the same, through a filter on the route that adds a timestamp',
    request: post('/responses/filtered'),
    first: 409,
    retry: 'the same',
    notes: 'the first timestamp',
    body: TIMESTAMPED,
  },
  {
    style: 'the same, through such a filter as `APP_FILTER` in the root module',
    request: post('/responses/conflict'),
    first: 409,
    retry: 'the same',
    body: TIMESTAMPED,
    stage: 'filter in the root module',
  },
  {
    style: '`HttpException` that is not recorded (400)',
    request: post('/responses/bad-request'),
    first: 400,
    retry: 'runs again',
    body: RUN,
  },
  { style: '`Error`', request: post('/responses/error'), first: 500, retry: 'runs again' },
  {
    style: '`Error` after the handler began to write',
    request: post('/responses/error-half-way'),
    first: 201,
    retry: 'the same',
    notes: 'Nest ends the response there, with its status',
    body: RUN,
  },
  {
    style: '500, `record: () => true`',
    request: post('/responses/error-recorded'),
    first: 500,
    retry: 'the same',
    body: RUN,
  },
  {
    style: '`Error`, `record: () => true`',
    request: post('/responses/plain-error-recorded'),
    first: 500,
    retry: 'the same',
    body: /Internal server error/,
  },
  {
    style: '`Error`, `record: () => true`, through a filter on the route that adds a timestamp',
    request: post('/responses/filtered-error'),
    first: 500,
    retry: 'the same',
    body: TIMESTAMPED,
  },
  {
    style: '`Error`, `record: () => true`, through such a filter as `APP_FILTER` in the root module',
    request: post('/responses/plain-error-recorded'),
    first: 500,
    retry: 'the same',
    body: TIMESTAMPED,
    stage: 'filter in the root module',
  },
  {
    style: 'interceptors: `APP_INTERCEPTOR` in the root module',
    request: post('/intercepted'),
    first: 201,
    retry: 'the same',
    notes: 'interceptors do not run for a retry, however they are registered',
    body: ENVELOPE,
    stage: 'root module',
    interceptorRuns: 1,
  },
  {
    style: 'interceptors: `useGlobalInterceptors()`',
    request: post('/intercepted'),
    first: 201,
    retry: 'the same',
    body: ENVELOPE,
    stage: 'useGlobalInterceptors',
    interceptorRuns: 1,
  },
  {
    style: 'interceptors: on the controller',
    request: post('/intercepted-controller'),
    first: 201,
    retry: 'the same',
    body: ENVELOPE,
    interceptorRuns: 1,
  },
  {
    style: 'interceptors: on the route',
    request: post('/intercepted/route'),
    first: 201,
    retry: 'the same',
    body: ENVELOPE,
    interceptorRuns: 1,
  },
  {
    style: 'compression',
    request: post('/values/object', GZIP),
    first: 201,
    retry: 'the same',
    notes: 'Express compresses a replay as its retry asks; Fastify repeats the first encoding',
    body: RUN,
    stage: 'compressed',
  },
  {
    style: 'compression, flushed half-way',
    request: post('/responses/flush', GZIP),
    first: 201,
    retry: 'the same',
    notes: 'Express',
    body: /^first, run 1/,
    stage: 'compressed',
    only: 'express',
  },
  {
    style: 'compression of a stream',
    request: post('/streams/file-from-stream', GZIP),
    first: 201,
    retry: 'the same',
    body: RUN,
    stage: 'compressed',
  },
  {
    style: 'global prefix, version in the URI',
    request: post('/api/v2/versions'),
    first: 201,
    retry: 'the same',
    body: RUN,
    stage: 'version in the URI',
  },
  {
    style: 'version in a header',
    request: post('/api/versions', { headers: { 'Content-Type': 'application/json', 'X-Version': '2' } }),
    first: 201,
    retry: 'the same',
    body: RUN,
    stage: 'version in a header',
  },
  {
    style: 'version in the media type',
    request: post('/api/versions', {
      headers: { 'Content-Type': 'application/json', Accept: 'application/json;v=2' },
    }),
    first: 201,
    retry: 'the same',
    body: RUN,
    stage: 'version in the media type',
  },
  {
    style: '`StreamableFile` of a buffer',
    request: post('/streams/file'),
    first: 201,
    retry: 'the same',
    body: RUN,
  },
  {
    style: '`StreamableFile` of a stream',
    request: post('/streams/file-from-stream'),
    first: 201,
    retry: 'the same',
    notes: 'held until its end, then sent at once, with its length',
    body: RUN,
  },
  { style: 'generator', request: post('/streams/generator'), first: 201, retry: 'the same', body: RUN },
  {
    style: 'web `ReadableStream`',
    request: post('/streams/web-stream'),
    first: 201,
    retry: 'the same',
    body: RUN,
  },
  {
    style: 'web `Response`',
    request: post('/streams/web-response'),
    first: 202,
    retry: 'the same',
    body: RUN,
  },
  {
    style: '`stream.pipe(response)`',
    request: post('/streams/pipe'),
    first: 201,
    retry: 'the same',
    body: RUN,
  },
  {
    style: '`stream.pipeline(source, response)`',
    request: post('/streams/pipeline'),
    first: 201,
    retry: 'the same',
    body: RUN,
  },
  {
    style: '`reply.send(stream)`',
    request: post('/streams/reply'),
    first: 201,
    retry: 'the same',
    notes: 'Fastify',
    body: RUN,
    only: 'fastify',
  },
  {
    style: '`StreamableFile` past `maxBodySize`',
    request: post('/streams/file-too-large'),
    first: 201,
    retry: '409, not stored',
    notes: 'sent as it comes from there on',
    body: RUN,
  },
  {
    style: '`pipeline()` past `maxBodySize`',
    request: post('/streams/pipeline-too-large'),
    first: 201,
    retry: '409, not stored',
    body: RUN,
  },
  {
    style: '`StreamableFile` whose source fails half-way',
    request: post('/streams/file-fails'),
    first: 'cut off',
    retry: 'runs again',
    notes: 'counts as a 500',
  },
  {
    style: 'the same, `record: () => true`',
    request: post('/streams/file-fails-recorded'),
    first: 'cut off',
    retry: '409, not stored',
  },
  {
    style: '`StreamableFile` whose source fails past `maxBodySize`',
    request: post('/streams/file-too-large-fails'),
    first: 'cut off',
    retry: '409, not stored',
    notes: 'the client has seen a part of it',
  },
  {
    style: '`pipeline()` whose source fails half-way',
    request: post('/streams/pipeline-fails'),
    first: 'cut off',
    retry: 'runs again',
  },
];
