import { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import type { RequestDescription } from '../core/explanation';
import { invalid } from '../options/service-arguments';

const WHERE = 'IdempotencyAdmin.explain';

/**
 * A request that no client has sent, as Node would hand it over, and the response to it.
 * @throws InvalidOptionsError if no client could send it
 */
export function madeUpRequest(described: RequestDescription): [IncomingMessage, ServerResponse] {
  const { method, url, headers, body } = checked(described);
  const socket = new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() }) as Socket;
  const request = new IncomingMessage(socket);
  const bytes = bytesOf(body);
  const own = bytes && { 'content-type': 'application/json', 'content-length': String(bytes.length) };
  const sent = { host: 'localhost', ...own, ...headers };
  request.method = method.toUpperCase();
  request.url = url;
  request.httpVersion = '1.1';
  for (const [name, value] of Object.entries(sent)) {
    request.headers[name.toLowerCase()] = value;
    request.rawHeaders.push(name, value);
  }
  request.complete = true; // or it is taken for one that was cut off
  request.push(bytes ?? null);
  if (bytes) request.push(null);
  const response = new ServerResponse(request);
  response.assignSocket(socket);
  return [request, response];
}

interface Checked {
  readonly method: string;
  readonly url: string;
  readonly headers: Record<string, string>;
  readonly body: unknown;
}

/** JavaScript, and what an operator's tool has read, pass by the types. */
function checked(described: unknown): Checked {
  if (typeof described !== 'object' || described === null)
    throw invalid(WHERE, 'request', described, '{ method, url, headers, body }');
  const { method, url, headers = {}, body } = described as Partial<Record<keyof Checked, unknown>>;
  if (typeof method !== 'string') throw invalid(WHERE, 'method', method, 'a string');
  if (typeof url !== 'string' || !url.startsWith('/')) throw invalid(WHERE, 'url', url, 'a path');
  if (typeof headers !== 'object' || headers === null)
    throw invalid(WHERE, 'headers', headers, 'an object of names and values');
  const given: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers) as [string, unknown][]) {
    if (value === undefined) continue; // a client sends no such header
    if (typeof value !== 'string') throw invalid(WHERE, `headers.${name}`, value, 'a string');
    given[name] = value;
  }
  return { method, url, headers: given, body };
}

/** Undefined if there is no body. */
function bytesOf(body: unknown): Buffer | undefined {
  if (body === undefined) return undefined;
  if (typeof body === 'string') return Buffer.from(body);
  if (body instanceof Uint8Array) return Buffer.from(body);
  const text = jsonOf(body);
  if (text === undefined) throw invalid(WHERE, 'body', body, 'text, bytes, or a value that has a JSON form');
  return Buffer.from(text);
}

function jsonOf(body: unknown): string | undefined {
  try {
    return JSON.stringify(body); // of a function there is none
  } catch {
    return undefined;
  }
}
