import { HttpException } from '@nestjs/common';
import { isIdempotencyError, type IdempotencyError, type IdempotencyErrorCode } from '../core/errors';
import type { HeaderList, ResponseOutcome } from '../core/record';

const PROBLEMS: Record<IdempotencyErrorCode, { readonly status: number; readonly title: string }> = {
  key_missing: { status: 400, title: 'Idempotency key is missing' },
  key_invalid: { status: 400, title: 'Idempotency key is not valid' },
  body_too_deep: { status: 400, title: 'Request body is nested too deeply' },
  fingerprint_mismatch: { status: 422, title: 'Idempotency key is already used' },
  in_flight: { status: 409, title: 'A request is outstanding for this idempotency key' },
  outcome_unknown: { status: 409, title: 'Outcome of the first request is unknown' },
  outcome_not_stored: { status: 409, title: 'Response of the first request was not stored' },
  outcome_not_recorded: { status: 503, title: 'Outcome is not recorded yet' },
  store_unavailable: { status: 503, title: 'Idempotency store is unavailable' },
};

/** Problem details (RFC 9457). `type` is stable: clients may depend on it. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
}

/** A refusal as the HTTP exception that filters see; `code` tells which, `retryAfter` (seconds) when to try again. */
export class IdempotencyException extends HttpException {
  readonly code: IdempotencyErrorCode;
  readonly retryAfter: number | undefined;

  constructor(error: IdempotencyError) {
    const problem = problemOf(error);
    super({ ...problem }, problem.status, { cause: error, description: problem.title });
    this.message = error.message;
    this.code = error.code;
    this.retryAfter = error.details.retryAfter;
  }
}

export const PROBLEM_MEDIA_TYPE = 'application/problem+json';
export const PROBLEM_TYPE = `${PROBLEM_MEDIA_TYPE}; charset=utf-8`;

/** The same refusal as a response, for when the handler has run and no exception filter can answer any more. */
export function problemResponse(error: unknown): ResponseOutcome {
  if (!isIdempotencyError(error)) {
    const body = Buffer.from(JSON.stringify({ statusCode: 500, message: 'Internal server error' }));
    return {
      kind: 'response',
      status: 500,
      headers: [['Content-Type', 'application/json; charset=utf-8']],
      body,
    };
  }
  const exception = new IdempotencyException(error);
  const body = Buffer.from(JSON.stringify(exception.getResponse()));
  const retry: HeaderList = exception.retryAfter ? [['Retry-After', String(exception.retryAfter)]] : [];
  return {
    kind: 'response',
    status: exception.getStatus(),
    headers: [['Content-Type', PROBLEM_TYPE], ...retry],
    body,
  };
}

function problemOf(error: IdempotencyError): Problem {
  const { status, title } = PROBLEMS[error.code];
  return {
    type: `urn:problem-type:nestjs-idempotency:${error.code.replaceAll('_', '-')}`,
    title,
    status,
    detail: error.message,
  };
}
