import { IdempotencyError, isIdempotencyError } from '../../core/errors';
import type { TombstoneOutcome, TombstoneReason } from '../../core/record';
import { IdempotencyException, problemHeaders } from './problems';
import { rawResponse, type PlatformResponse } from '../platform';
import { ResponseCapture } from './response-capture';

/** What Nest's exception filters get for an error that ends a request before its handler has run. */
export function refusalOf(
  response: PlatformResponse,
  error: unknown,
  documentation: string | undefined,
): unknown {
  if (!isIdempotencyError(error)) return error;
  return asProblem(response, new IdempotencyException(error), documentation);
}

/** A refusal of ours as the answer that it gets; any other error as it is. */
export function problemOf(
  error: unknown,
  response: PlatformResponse,
  documentation: string | undefined,
): unknown {
  return error instanceof IdempotencyException ? asProblem(response, error, documentation) : error;
}

/**
 * What filters make of the exception is left to the application: only the link to the documentation is added to it,
 * and where it is the problem document as it is, the content type says so.
 * @returns the exception, or what the application's middleware failed with on its way
 */
function asProblem(
  platformResponse: PlatformResponse,
  exception: IdempotencyException,
  documentation: string | undefined,
): unknown {
  try {
    const response = rawResponse(platformResponse);
    // Something else has answered meanwhile, such as a time-out of the application.
    if (response.headersSent) return exception;
    // On Node's response, where filters that write past Fastify's find it, too.
    if (exception.retryAfter !== undefined) response.setHeader('Retry-After', String(exception.retryAfter));
    const problem = JSON.stringify(exception.getResponse());
    const capture = new ResponseCapture(response, Infinity, () => true);
    void capture.ended.then((outcome) =>
      capture.send(() => problemHeaders(response, outcome, problem, documentation)),
    );
    return exception;
  } catch (error) {
    return error;
  }
}

const WITHOUT_RESPONSE: Readonly<Record<TombstoneReason, string>> = {
  too_large: 'was too large to be stored',
  unstorable: 'could not be stored',
  unreadable: 'cannot be read from the store',
};

export function notStored({ reason, status }: Pick<TombstoneOutcome, 'reason' | 'status'>): IdempotencyError {
  return new IdempotencyError(
    'outcome_not_stored',
    `The request was executed before and answered with status ${status}, but its response ${WITHOUT_RESPONSE[reason]}. It is not executed again.`,
  );
}
