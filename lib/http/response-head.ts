import {
  STATUS_CODES,
  type OutgoingHttpHeader,
  type OutgoingHttpHeaders,
  type ServerResponse,
} from 'node:http';
import type { HeaderList } from '../core/record';
import { FRAMING_HEADERS, isStatus, REASON } from '../core/stored-outcome';
import type { HeaderFilter } from '../options/idempotency.options';

/** Names of the connection, of the moment, or of one caller: never stored, so never replayed. */
const NEVER_STORED = new Set([
  ...FRAMING_HEADERS,
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-authorization',
  'date',
  'set-cookie',
  'www-authenticate',
  'authentication-info',
  'idempotent-replayed',
]);

/** What a status line may not hold (RFC 9112, 4). */
const NOT_IN_REASON = /[^\t\x20-\x7e\x80-\xff]/;

interface Http2Response {
  readonly stream: { readonly destroyed: boolean; close(code: number): void };
}

/** RFC 9113, 7 */
const HTTP2_INTERNAL_ERROR = 2;

export function isHttp2(response: object): response is Http2Response {
  return 'stream' in response;
}

/** HTTP/2 has no reason phrases, and Node warns whoever asks for one. */
export function reasonOf(response: ServerResponse): string | undefined {
  return isHttp2(response) ? undefined : response.statusMessage;
}

/** @param reason the status' own if empty */
export function setReason(response: ServerResponse, reason = ''): void {
  if (!isHttp2(response)) response.statusMessage = reason;
}

/** Ends a response so that its client cannot take what it has of it for the whole. */
export function cut(response: ServerResponse): void {
  if (isHttp2(response)) response.stream.close(HTTP2_INTERNAL_ERROR);
  else response.destroy();
}

/** True once nothing can be written any more, whoever ended it. */
export function isClosed(response: ServerResponse): boolean {
  return isHttp2(response) ? response.stream.destroyed : response.closed || response.destroyed;
}

/** True if Node sends a body with this response. */
export function hasBody({ req }: ServerResponse, status: number): boolean {
  return req.method !== 'HEAD' && status !== 204 && status !== 304;
}

/** Refuses at once, as Node does: once the response is held, nobody could answer in its place. */
export function assertStatusLine(status: unknown, reason: string | undefined): void {
  if (!isStatus(status)) {
    throw Object.assign(new RangeError(`Invalid status code: ${String(status)}`), {
      code: 'ERR_HTTP_INVALID_STATUS_CODE',
    });
  }
  if (reason && NOT_IN_REASON.test(reason)) {
    throw Object.assign(new TypeError('Invalid character in statusMessage'), { code: 'ERR_INVALID_CHAR' });
  }
}

/** What is recorded of a response's head, in the order and the case in which it was set. */
export function keptHeaders(
  response: ServerResponse & { getRawHeaderNames?(): string[] }, // Node's types lack it on responses
  reason: string | undefined,
  keepsHeader: HeaderFilter,
): HeaderList {
  const kept: [string, string | readonly string[]][] = [];
  if (reason && reason !== STATUS_CODES[response.statusCode]) kept.push([REASON, reason]);
  for (const name of response.getRawHeaderNames?.() ?? response.getHeaderNames()) {
    const raw = response.getHeader(name);
    const value = Array.isArray(raw) ? raw.map(String) : String(raw);
    const lower = name.toLowerCase();
    if (raw !== undefined && !NEVER_STORED.has(lower) && keepsHeader(lower, value)) kept.push([name, value]);
  }
  return kept;
}

/** `writeHead` takes an object, a flat list of names and values, or a list of pairs. */
export function headerEntries(headers: unknown): [string, string | number | readonly string[]][] {
  if (typeof headers !== 'object' || headers === null) return [];
  const given = headers as OutgoingHttpHeaders | OutgoingHttpHeader[];
  if (!Array.isArray(given)) {
    return Object.entries(given).filter(
      (entry): entry is [string, OutgoingHttpHeader] => entry[1] !== undefined,
    );
  }
  if (Array.isArray(given[0])) return given as unknown as [string, OutgoingHttpHeader][];
  const joined = new Map<string, [string, string | number | readonly string[]]>();
  for (let i = 0; i + 1 < given.length; i += 2) {
    const name = String(given[i]);
    const before = joined.get(name.toLowerCase());
    const value = given[i + 1] as string | number;
    joined.set(
      name.toLowerCase(),
      before ? [name, [...[before[1]].flat().map(String), String(value)]] : [name, value],
    );
  }
  return [...joined.values()];
}

export function writeAfterEndError(): Error {
  return Object.assign(new Error('write after end'), { code: 'ERR_STREAM_WRITE_AFTER_END' });
}

export function headersSentError(): Error {
  return Object.assign(new Error('Cannot set headers after they are sent to the client'), {
    code: 'ERR_HTTP_HEADERS_SENT',
  });
}

export type WriteCallback = (error?: Error | null) => void;

/** `write` and `end` take it last, wherever that is. */
export function callbackIn(args: readonly unknown[]): WriteCallback | undefined {
  return args.find((arg): arg is WriteCallback => typeof arg === 'function');
}

export type Chunk = string | Uint8Array;

export function bytesOf(chunk: Chunk, encoding: unknown): Buffer {
  if (typeof chunk !== 'string') return Buffer.from(chunk);
  return Buffer.from(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8');
}
