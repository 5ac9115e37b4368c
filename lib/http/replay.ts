import type { ServerResponse } from 'node:http';
import type { ResponseOutcome } from '../core/record';

/** Marks a response that was not made by the handler just now. */
export const REPLAY_HEADER = 'Idempotent-Replayed';

/** Writes a recorded response as it was first sent, with the replay marker. */
export function replay(response: ServerResponse, outcome: ResponseOutcome): void {
  write(response, outcome);
  response.setHeader(REPLAY_HEADER, 'true');
  response.end(outcome.body);
}

/** Writes a response in place of one that was held back. */
export function substitute(response: ServerResponse, outcome: ResponseOutcome): void {
  write(response, outcome);
  response.end(outcome.body);
}

function write(response: ServerResponse, { status, headers, body }: ResponseOutcome): void {
  response.statusCode = status;
  // What a dropped response has left behind is of another length.
  if (response.hasHeader('Content-Length')) response.setHeader('Content-Length', body.length);
  for (const [name, value] of headers) response.setHeader(name, value as string | string[]);
}
