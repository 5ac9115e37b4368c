import type { IncomingMessage } from 'node:http';
import type { Http2ServerRequest } from 'node:http2';
import { canonical, canonicalPairs } from './canonical';
import { bodyOf, rawRequest, type PlatformRequest } from '../../platform';
import { roundedNumbers } from './rounded-numbers';
import { spellBytes } from './spelling';

const NONE = 'none';

const BYTE_ORDER_MARK = /^\ufeff/;

/** What parsers, and adapters in front of them, make of no body. */
const MADE_OF_NOTHING = new Set([null, {}, '', Buffer.alloc(0)].map(canonical));

/**
 * What a request's body is compared by: the bytes that were sent, where the application keeps them (`rawBody: true`),
 * as guards and middleware may have changed what was parsed; else the parsed body. A body that is not parsed when
 * interceptors start (multipart) counts as none.
 */
export function spelledBody(request: PlatformRequest): string {
  const raw = rawRequest(request);
  const body = bodyOf(request);
  const kept = keptBytes(request.rawBody);
  if (kept ? kept.length === 0 : body === undefined || !wasSent(raw, body)) return NONE;
  return (kept && spelledRawBody(kept, raw, body)) ?? (body === undefined ? NONE : canonical(body));
}

/** Parsers make `{}`, `''` or nothing of an empty body: only its framing says that it was empty. */
export function wasSent(raw: IncomingMessage, body: unknown): boolean {
  const { 'content-length': length, 'transfer-encoding': coding } = raw.headers;
  if (coding !== undefined) return true;
  if (length !== undefined) return Number(length) !== 0;
  if (raw.httpVersionMajor > 1) return !(raw as unknown as Http2ServerRequest).stream.endAfterHeaders;
  // What stands in for Node's request (serverless adapters) may have a body without either header.
  return !MADE_OF_NOTHING.has(canonical(body));
}

/** Nest keeps them as a Buffer, plugins of Fastify also as a text. */
export function keptBytes(kept: unknown): Uint8Array | undefined {
  if (typeof kept === 'string') return Buffer.from(kept);
  return kept instanceof Uint8Array ? kept : undefined;
}

/** Undefined where the parsed body says more: text and bytes, which cannot be changed in place, multipart, other charsets. */
function spelledRawBody(kept: Uint8Array, raw: IncomingMessage, body: unknown): string | undefined {
  if (typeof body === 'string' || body instanceof Uint8Array) return undefined;
  const type = raw.headers['content-type'] ?? '';
  if (/^multipart\/|charset=(?!"?utf-?8)/i.test(type)) return undefined;
  if (/^[^;]*[/+]json\b/i.test(type)) return spelledJson(kept);
  if (/^application\/x-www-form-urlencoded\b/i.test(type))
    return canonicalPairs(fieldsOf(textOf(kept, 'latin1')));
  return spellBytes('raw', kept);
}

function textOf(kept: Uint8Array, encoding?: BufferEncoding): string {
  return Buffer.from(kept.buffer, kept.byteOffset, kept.byteLength).toString(encoding);
}

/**
 * As they are spelled: to decode them would make one of all bytes that are not UTF-8. Each comes behind the property that
 * parsers make it a part of, as its place among those of one property counts: `a[]=1&a=2` is not `a=2&a[]=1`.
 */
function* fieldsOf(form: string): Generator<[property: string, field: string]> {
  for (let start = 0; start <= form.length;) {
    const next = form.indexOf('&', start);
    const end = next < 0 ? form.length : next;
    const field = form.slice(start, end);
    yield [propertyOf(field), field];
    start = end + 1;
  }
}

/** The `a` of `a`, `[a]`, `a[b]`, `a.b` and `a%5Bb%5D`. */
function propertyOf(field: string): string {
  const [name = ''] = field.split('=', 1);
  return /^\[?([^[\].]*)/.exec(decoded(name))?.[1] ?? '';
}

function decoded(name: string): string {
  if (!/[%+]/.test(name)) return name;
  try {
    return decodeURIComponent(name.replaceAll('+', ' '));
  } catch {
    return name;
  }
}

/** As it is parsed, and the numbers that this rounds: a parser of the application may hold them exactly. */
function spelledJson(kept: Uint8Array): string {
  const text = textOf(kept).replace(BYTE_ORDER_MARK, '');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return spellBytes('raw', kept); // a parser of the application reads more than JSON
  }
  const rounded = roundedNumbers(text);
  return rounded.length === 0 ? canonical(value) : `rounded(${canonical(value)},${canonical(rounded)})`;
}
