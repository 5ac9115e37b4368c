import type { ServerResponse } from 'node:http';
import { isRecorded } from '../../outcome/recorded-headers';
import { SafeLogger } from '../../observability/safe-logger';
import { cut, dropConnectionHeaders, setReason } from './node-response';

const logger = new SafeLogger('Idempotency');

const SERVER_ERROR = Buffer.from(JSON.stringify({ statusCode: 500, message: 'Internal server error' }));

/**
 * Sends a response when no exception filter can answer any more. The application's middleware may have wrapped the
 * response's methods: what these throw is answered with 500 or, if a part has been sent, by cutting the connection.
 * @param send may answer with a promise, as a wrapped `end` may
 */
export function sendOrFail(response: ServerResponse, send: () => unknown): void {
  attempt(send, (error) => {
    logger.error(
      'A response could not be sent, because the application or Node threw an error. Its client gets 500, or a cut connection',
      error,
    );
    attempt(
      () => (response.headersSent ? cutUnlessEnded(response) : sendServerError(response)),
      () => destroy(response),
    );
  });
}

function attempt(step: () => unknown, onFailure: (error: unknown) => void): void {
  try {
    const result = step();
    if (isThenable(result)) result.then(undefined, onFailure);
  } catch (error) {
    onFailure(error);
  }
}

/** What belongs to the request at hand stays, such as the headers without which a browser hides the answer. */
function sendServerError(response: ServerResponse): unknown {
  for (const name of response.getHeaderNames()) if (isRecorded(name)) response.removeHeader(name);
  response.removeHeader('Transfer-Encoding');
  dropConnectionHeaders(response);
  response.statusCode = 500;
  setReason(response);
  response.setHeader('Content-Type', 'application/json; charset=utf-8');
  response.setHeader('Content-Length', SERVER_ERROR.length);
  return response.end(SERVER_ERROR);
}

function cutUnlessEnded(response: ServerResponse): void {
  if (!response.writableEnded) cut(response);
}

/** The way to cut a connection may be wrapped as well. */
function destroy(response: ServerResponse): void {
  try {
    cut(response);
  } catch {
    response.socket?.destroy();
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}
