/**
 * Names that belong to one connection or frame its messages (RFC 9110, 7.6.1 and 6.6.2): no stored response has them.
 * Node throws on a response that says `Trailer` and is not sent in chunks.
 */
export const FRAMING_HEADERS: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** Names of one moment, one caller or one request. */
const OF_ONE_REQUEST: ReadonlySet<string> = new Set([
  'authentication-info',
  'date',
  'idempotent-replayed',
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-authorization',
  'set-cookie',
  'set-cookie2',
  'www-authenticate',
  // How much the caller may still ask
  'ratelimit',
  // How the request is called in logs and traces
  'baggage',
  'b3',
  'cf-ray',
  'correlation-id',
  'fly-request-id',
  'request-context',
  'request-id',
  'sentry-trace',
  'trace-id',
  'traceparent',
  'traceresponse',
  'tracestate',
  'uber-trace-id',
  'x-amzn-requestid',
  'x-amzn-trace-id',
  'x-amz-request-id',
  'x-cloud-trace-context',
  'x-correlation-id',
  'x-correlationid',
  'x-ms-request-id',
  'x-request-id',
  'x-requestid',
  'x-span-id',
  'x-trace-id',
  'x-vercel-id',
  // How long it took
  'server-timing',
  'x-response-time',
  'x-runtime',
]);

const PREFIXES_OF_ONE_REQUEST = /^(?:access-control-|ratelimit-|x-ratelimit-|x-rate-limit-|x-b3-|x-datadog-)/;

/**
 * Whether a header is part of a response that every retry gets. The others belong to a connection, or to the request at
 * hand: they are not stored, not taken from a store, and a replay has what the retry's own middleware set.
 * @param name in lower case
 */
export function isRecorded(name: string): boolean {
  return !FRAMING_HEADERS.has(name) && !OF_ONE_REQUEST.has(name) && !PREFIXES_OF_ONE_REQUEST.test(name);
}
