import { OutgoingMessage, ServerResponse, type IncomingMessage, type OutgoingHttpHeader } from 'node:http';
import { isHttp2 } from '../platform';
import { hasBody, type HeaderLine } from './node-response';

/** Where Node keeps what was set one by one; null until then. */
const SET_HEADERS = Object.getOwnPropertySymbols(new OutgoingMessage()).find(
  ({ description }) => description === 'kOutHeaders',
);

/** Node merges what `writeHead` is given with what was set before; if nothing was, each line goes out as it is. */
export function isUntouched(response: ServerResponse): boolean {
  if (isHttp2(response)) return false;
  const none = SET_HEADERS === undefined ? undefined : (Reflect.get(response, SET_HEADERS) as unknown);
  return none === undefined ? response.getHeaderNames().length === 0 : none === null;
}

/** Whether a name comes twice, so that `setHeader` would keep one line of them only. */
export function isRepeated(lines: readonly HeaderLine[]): boolean {
  if (lines.length > FEW) return new Set(lines.map(([name]) => name.toLowerCase())).size < lines.length;
  return lines.length > 1 && lines.some(([name], index) => isNamedBefore(lines, index, name.toLowerCase()));
}

/** Lines that are compared with each other: cheaper than a set of their names. */
const FEW = 12;

function isNamedBefore(lines: readonly HeaderLine[], index: number, lower: string): boolean {
  for (const [name] of lines) {
    if (index-- <= 0) return false;
    if (name.length === lower.length && name.toLowerCase() === lower) return true;
  }
  return false;
}

/** What was set on a response, in the order and the case in which it was set. */
export function headerLinesOf(
  response: ServerResponse & { getRawHeaderNames?(): string[] }, // Node's types lack it on responses
): HeaderLine[] {
  const lines: HeaderLine[] = [];
  for (const name of response.getRawHeaderNames?.() ?? response.getHeaderNames()) {
    const value = response.getHeader(name);
    if (value !== undefined) lines.push([name, value]);
  }
  return lines;
}

/** Sets headers of different names. */
export function setHeaderLines(response: ServerResponse, lines: readonly HeaderLine[]): void {
  for (const [name, value] of lines) response.setHeader(name, value);
}

/**
 * Sends lines as they are, also if a name comes twice: Node does so for what `writeHead` alone is given.
 * @param bodyLength undefined if it is not known yet
 */
export function writeHeaderLines(
  response: ServerResponse,
  lines: readonly HeaderLine[],
  bodyLength: number | undefined,
): void {
  if (!isUntouched(response)) {
    const set = new Set<string>();
    for (const [name, value] of lines) {
      const first = !set.has(name.toLowerCase());
      set.add(name.toLowerCase());
      if (first) response.setHeader(name, value);
      else response.appendHeader(name, value as string | string[]);
    }
    return;
  }
  const framed = !hasBody(response, response.statusCode) || lines.some(([name]) => FRAMING.test(name));
  const whole: readonly HeaderLine[] =
    framed || bodyLength === undefined ? lines : [...lines, ['Content-Length', bodyLength]];
  response.writeHead(response.statusCode, whole.flat(1) as OutgoingHttpHeader[]);
}

const FRAMING = /^(?:content-length|transfer-encoding)$/i;

/** `writeHead` takes an object, a flat list of names and values, or a list of pairs. */
export function linesOf(headers: unknown, untouched: boolean): HeaderLine[] {
  if (typeof headers !== 'object' || headers === null) return [];
  if (!Array.isArray(headers)) return Object.entries(headers) as HeaderLine[];
  if (untouched && Array.isArray(headers[0])) return headers as HeaderLine[];
  if (headers.length % 2 !== 0) throw invalidList(headers);
  const lines: HeaderLine[] = [];
  for (let i = 0; i < headers.length; i += 2)
    lines.push([headers[i], headers[i + 1]] as unknown as HeaderLine);
  return lines;
}

function invalidList(headers: readonly unknown[]): Error {
  return Object.assign(
    new TypeError(`The headers are a list of ${headers.length} items: expected a value for each name`),
    { code: 'ERR_INVALID_ARG_VALUE' },
  );
}

let appends: boolean | undefined;

/** Whether Node appends what a list repeats to headers that were set before, as it does from version 22 on. */
export function listsAppend(): boolean {
  if (appends === undefined) {
    const probe = new ServerResponse({ method: 'GET' } as IncomingMessage);
    probe.setHeader('A', '0');
    probe.writeHead(200, ['B', '1', 'B', '2']);
    appends = Array.isArray(probe.getHeader('B'));
  }
  return appends;
}
