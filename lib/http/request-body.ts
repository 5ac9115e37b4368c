import type { IncomingMessage } from 'node:http';
import type { Http2ServerRequest } from 'node:http2';
import { canonical, canonicalPairs } from './canonical';
import { rawRequest, type PlatformRequest } from './request';
import { spellBytes } from './spelling';

const NONE = 'none';

/**
 * What a request's body is compared by: the bytes that were sent, where the application keeps them (`rawBody: true`),
 * as guards and middleware may have changed what was parsed; else the parsed body. A body that is not parsed when
 * interceptors start (multipart) counts as none.
 */
export function spelledBody(request: PlatformRequest): string {
  const raw = rawRequest(request);
  // Fastify has no body for what Nest's middleware has parsed: that lies on Node's request.
  const body = request.body ?? (raw as { readonly body?: unknown }).body;
  if (body === undefined && request.rawBody === undefined) return NONE;
  if (!wasSent(raw, body) || isEmptyBytes(request.rawBody)) return NONE;
  return spelledRawBody(request.rawBody, raw, body) ?? (body === undefined ? NONE : canonical(body));
}

/** Parsers make `{}`, `''` or nothing of an empty body: only its framing says that it was empty. */
function wasSent(raw: IncomingMessage, body: unknown): boolean {
  const { 'content-length': length, 'transfer-encoding': coding } = raw.headers;
  if (coding !== undefined) return true;
  if (length !== undefined) return Number(length) !== 0;
  if (raw.httpVersionMajor > 1) return !(raw as unknown as Http2ServerRequest).stream.endAfterHeaders;
  // What stands in for Node's request (serverless adapters) may have a body without either header.
  return !isEmpty(body);
}

function isEmpty(body: unknown): boolean {
  if (typeof body !== 'object' || body === null) return body === undefined || body === null || body === '';
  return Object.keys(body).length === 0;
}

function isEmptyBytes(kept: unknown): boolean {
  return kept instanceof Uint8Array && kept.length === 0;
}

/** Undefined where the parsed body says more: text and bytes, which cannot be changed in place, multipart, other charsets. */
function spelledRawBody(kept: unknown, raw: IncomingMessage, body: unknown): string | undefined {
  if (!(kept instanceof Uint8Array) || typeof body === 'string' || body instanceof Uint8Array)
    return undefined;
  const type = raw.headers['content-type'] ?? '';
  if (/^multipart\/|charset=(?!"?utf-?8)/i.test(type)) return undefined;
  if (/^[^;]*[/+]json\b/i.test(type)) return spelledJson(kept);
  if (/^application\/x-www-form-urlencoded\b/i.test(type))
    return canonicalPairs(fieldsOf(Buffer.from(kept).toString('latin1')));
  return spellBytes('raw', kept);
}

/** As they are spelled: to decode them would make one of all bytes that are no UTF-8. */
function fieldsOf(form: string): [string, string | undefined][] {
  return form.split('&').map((field) => {
    const at = field.indexOf('=');
    return at < 0 ? [field, undefined] : [field.slice(0, at), field.slice(at + 1)];
  });
}

function spelledJson(kept: Uint8Array): string {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(kept));
  } catch {
    return spellBytes('raw', kept); // a parser of the application reads more than JSON
  }
  return canonical(value);
}
