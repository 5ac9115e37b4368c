import {
  STATUS_CODES,
  validateHeaderName,
  validateHeaderValue,
  type OutgoingHttpHeader,
  type ServerResponse,
} from 'node:http';
import { types } from 'node:util';
import type { HeaderList } from '../../core/record';
import { isRecorded } from '../../outcome/recorded-headers';
import { isBodiless, isStatus, REASON } from '../../outcome/stored-outcome';
import type { HeaderFilter } from '../../options/idempotency.options';
import { isHttp2 } from '../platform';

/** A header as its writer gave it. A list of values is a line each. */
export type HeaderLine = readonly [name: string, value: OutgoingHttpHeader | readonly string[]];

/** What a status line may not hold (RFC 9112, 4). */
const NOT_IN_REASON = /[^\t\x20-\x7e\x80-\xff]/;

/** RFC 9113, 7 */
const HTTP2_INTERNAL_ERROR = 2;

/** HTTP/2 has no reason phrases, and Node logs a warning if one is asked for. */
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

/** What HTTP/2 has no place for (RFC 9113, 8.2.2). Node leaves `Connection` out, and throws at the others once it writes them. */
const OF_HTTP1 = ['http2-settings', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade'];

/** Over HTTP/2, leaves out headers without which the response means the same, and with which it could not be sent. */
export function dropConnectionHeaders(
  response: ServerResponse,
  remove = (name: string): unknown => response.removeHeader(name),
): void {
  if (!isHttp2(response)) return;
  for (const name of OF_HTTP1) if (response.hasHeader(name)) remove(name);
}

/** True if Node sends a body with this response. */
export function hasBody({ req }: ServerResponse, status: number): boolean {
  return req.method !== 'HEAD' && !isBodiless(status);
}

/** Refuses at once, as Node does: once the response is held, no other code can answer in its place. */
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

/** Refuses what Node refuses in `writeHead`. */
export function assertHeaderLine([name, value]: HeaderLine): void {
  validateHeaderName(name);
  if (Array.isArray(value)) for (const each of value as readonly string[]) validateHeaderValue(name, each);
  else validateHeaderValue(name, value as string);
}

/** What is recorded of a response's head, in the order and the case in which it was set. */
export function keptHeaders(
  status: number,
  reason: string | undefined,
  lines: readonly HeaderLine[],
  keepsHeader: HeaderFilter,
): HeaderList {
  const kept: HeaderList[number][] = [];
  if (reason && reason !== STATUS_CODES[status]) kept.push([REASON, reason]);
  for (const [name, raw] of lines) {
    const value = typeof raw === 'string' ? raw : Array.isArray(raw) ? raw.map(String) : String(raw);
    const lower = name.toLowerCase();
    if (isRecorded(lower) && keepsHeader(lower, value)) kept.push([name, value]);
  }
  return kept;
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
  return args.find(isCallback);
}

function isCallback(arg: unknown): arg is WriteCallback {
  return typeof arg === 'function';
}

/**
 * The bytes of what `write` and `end` are given.
 * @throws TypeError for what Node refuses: once its head is sent, no error can be answered in its place
 */
export function bytesOf(chunk: unknown, encoding: unknown): Buffer {
  if (typeof chunk === 'string')
    return Buffer.from(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8');
  if (types.isUint8Array(chunk)) return Buffer.from(chunk);
  throw Object.assign(new TypeError('A response is written as a string, a Buffer or a Uint8Array'), {
    code: chunk === null ? 'ERR_STREAM_NULL_VALUES' : 'ERR_INVALID_ARG_TYPE',
  });
}
