import type { ServerResponse } from 'node:http';
import type { ResponseOutcome } from '../core/record';
import { REASON } from '../core/stored-outcome';
import { reasonOf, setReason } from './response-head';

/** Marks a response that was not made by the handler just now. */
export const REPLAY_HEADER = 'Idempotent-Replayed';

/** Writes a recorded response as it was first sent, with the replay marker. */
export function replay(response: ServerResponse, outcome: ResponseOutcome): void {
  write(response, outcome);
  response.setHeader(REPLAY_HEADER, 'true');
  response.end(outcome.body);
}

/** Writes a response that tells why the one that was held back cannot be sent. */
export function substitute(response: ServerResponse, outcome: ResponseOutcome): void {
  write(response, outcome);
  response.end(outcome.body);
}

function write(response: ServerResponse, { status, headers, body }: ResponseOutcome): void {
  response.statusCode = status;
  if (reasonOf(response)) setReason(response); // the status' own, unless one was recorded
  // A response that was held and dropped has lost its length, and Node would send this one in chunks.
  const dropped = response.hasHeader('Content-Length');
  if (dropped) response.removeHeader('Content-Length');
  for (const [name, value] of headers) {
    if (name === REASON) setReason(response, String(value));
    else response.setHeader(name, value);
  }
  if (dropped && !response.hasHeader('Content-Length')) response.setHeader('Content-Length', body.length);
}
