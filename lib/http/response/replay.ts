import type { OutgoingHttpHeader, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { HeaderList, ResponseOutcome } from '../../core/record';
import { FRAMING_HEADERS, isRecorded } from '../../outcome/recorded-headers';
import { REASON } from '../../outcome/stored-outcome';
import type { HeaderFilter } from '../../options/idempotency.options';
import { isRepeated, setHeaderLines, writeHeaderLines } from './header-lines';
import { dropConnectionHeaders, hasBody, reasonOf, setReason, type HeaderLine } from './node-response';

/** Marks a response that was not made by the handler just now. */
export const REPLAY_HEADER = 'Idempotent-Replayed';

/**
 * Writes a recorded response as it was first sent, with the replay marker: what the first response lacked, this one
 * lacks as well, unless it belongs to the request at hand.
 * @param present the headers that the retry's own middleware has set
 * @param keepsHeader which headers are recorded; the application leaves the others to the request at hand
 */
export function replay(
  response: ServerResponse,
  outcome: ResponseOutcome,
  present: OutgoingHttpHeaders,
  keepsHeader: HeaderFilter,
): unknown {
  const own = Object.entries(present).filter(
    (entry): entry is [string, OutgoingHttpHeader] =>
      entry[1] !== undefined && staysOwn(entry[0], entry[1], keepsHeader),
  );
  const recorded = withVary(outcome.headers, present.vary);
  return write(response, { ...outcome, headers: [...recorded, [REPLAY_HEADER, 'true']] }, own);
}

/** Writes a response that tells why the one that was held back cannot be sent. */
export function substitute(response: ServerResponse, outcome: ResponseOutcome): unknown {
  return write(response, outcome, []);
}

function write(
  response: ServerResponse,
  { status, headers, body }: ResponseOutcome,
  own: readonly HeaderLine[],
): unknown {
  response.statusCode = status;
  if (reasonOf(response)) setReason(response); // the status' own, unless one was recorded
  // Once its length was removed, Node would send this response in chunks.
  let lengthless = response.hasHeader('Content-Length');
  const kept = new Set(own.map(([name]) => name));
  for (const name of response.getHeaderNames()) if (!kept.has(name)) response.removeHeader(name);
  const lines: HeaderLine[] = own.filter(([name, value]) => response.getHeader(name) !== value);
  for (const [name, value] of headers) {
    if (name === REASON) setReason(response, String(value));
    else lines.push([name, value]);
    if (name.toLowerCase() === 'content-length') lengthless = false;
  }
  if (lengthless && hasBody(response, status)) lines.push(['Content-Length', body.length]);
  if (isRepeated(lines)) writeHeaderLines(response, lines, body.length);
  else setHeaderLines(response, lines);
  dropConnectionHeaders(response);
  return response.end(body);
}

function staysOwn(name: string, value: OutgoingHttpHeader, keepsHeader: HeaderFilter): boolean {
  if (FRAMING_HEADERS.has(name)) return name === 'connection' || name === 'keep-alive';
  if (name === 'content-length' || name === REPLAY_HEADER.toLowerCase()) return false;
  return !isRecorded(name) || !keepsHeader(name, Array.isArray(value) ? value : String(value));
}

/** What the retry's own middleware answers differently for, such as another origin, is kept with what was recorded. */
function withVary(headers: HeaderList, own: OutgoingHttpHeader | undefined): HeaderList {
  if (own === undefined) return headers;
  const isVary = ([name]: HeaderList[number]): boolean => name.toLowerCase() === 'vary';
  const recorded = headers.filter(isVary).flatMap(([, value]) => fieldsOf(value));
  if (recorded.length === 0) return [...headers, ['Vary', [own].flat().join(', ')]];
  const known = new Set(recorded.map((field) => field.toLowerCase()));
  const more = fieldsOf(own).filter((field) => !known.has(field.toLowerCase()));
  if (more.length === 0 || known.has('*')) return headers;
  return [...headers.filter((line) => !isVary(line)), ['Vary', [...recorded, ...more].join(', ')]];
}

function fieldsOf(value: OutgoingHttpHeader | readonly string[]): string[] {
  return [value]
    .flat()
    .join(',')
    .split(',')
    .map((field) => field.trim())
    .filter((field) => field !== '');
}
