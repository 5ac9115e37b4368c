import { HttpException } from '@nestjs/common';
import type { OutgoingHttpHeader, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { brotliDecompressSync, gunzipSync, inflateSync } from 'node:zlib';
import {
  isIdempotencyError,
  type IdempotencyError,
  type IdempotencyErrorCode,
  isMarked,
} from '../../core/errors';
import type { Outcome, ResponseOutcome } from '../../core/record';

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
  overloaded: { status: 503, title: 'Too many requests wait' },
  transaction_conflict: { status: 503, title: 'Transaction conflicts with another' },
  transaction_timeout: { status: 503, title: 'Transaction took too long' },
  transaction_broken: { status: 500, title: 'Transaction is broken' },
};

/** Problem details (RFC 9457). `type` is stable: clients may depend on it. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
}

const EXCEPTION = Symbol.for('nestjs-idempotency.exception');

/**
 * A refusal as the HTTP exception that filters see. `code` says which, `retryAfter` (seconds) when to try again.
 * Test with {@link isIdempotencyException}.
 */
export class IdempotencyException extends HttpException {
  readonly [EXCEPTION] = true;
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

export function isIdempotencyException(error: unknown): error is IdempotencyException {
  return isMarked(error, EXCEPTION);
}

export const PROBLEM_MEDIA_TYPE = 'application/problem+json';
const PROBLEM_TYPE = `${PROBLEM_MEDIA_TYPE}; charset=utf-8`;

/** Plugins of Fastify compress before the response is written. */
const DECODERS = new Map<string, (body: Buffer) => Buffer>([
  ['gzip', gunzipSync],
  ['deflate', inflateSync],
  ['br', brotliDecompressSync],
]);

/** Headers that tell of a body or a connection, so that they do not outlive a response that is not sent. */
const OF_THE_BODY =
  /^(content-(?!security-policy)|etag$|last-modified$|accept-ranges$|trailer$|transfer-encoding$)/i;

/**
 * What a refusal gets beside or instead of the headers that the application's filters gave it: the link to the
 * documentation, and the media type if its body is our document as it is.
 * @param problem our document, as JSON
 */
export function problemHeaders(
  response: ServerResponse,
  outcome: Outcome | undefined,
  problem: string,
  documentation: string | undefined,
): Record<string, string> {
  return {
    ...describedBy(documentation, response.getHeader('Link')),
    ...(outcome?.kind === 'response' && isProblem(response, outcome.body, problem)
      ? { 'Content-Type': PROBLEM_TYPE }
      : {}),
  };
}

/**
 * The same refusal as a response, for when the handler has run and no exception filter can answer any more.
 * @param before the headers that the response had before the handler ran, such as those of CORS
 */
export function problemResponse(
  error: unknown,
  documentation: string | undefined,
  before: OutgoingHttpHeaders,
): ResponseOutcome {
  const given = (
    status: number,
    type: string,
    document: object,
    more: Record<string, string> = {},
  ): ResponseOutcome => {
    const body = Buffer.from(JSON.stringify(document));
    const own = Object.entries({ 'Content-Type': type, ...more });
    const replaced = new Set(own.map(([name]) => name.toLowerCase()));
    const headers = Object.entries(before)
      .filter(([name]) => !OF_THE_BODY.test(name) && !replaced.has(name))
      .map(([name, value]) => [name, Array.isArray(value) ? value.map(String) : String(value)] as const);
    return { kind: 'response', status, headers: [...headers, ...own], body };
  };
  if (!isIdempotencyError(error)) {
    const document = { statusCode: 500, message: 'Internal server error' };
    return given(500, 'application/json; charset=utf-8', document);
  }
  const problem = problemOf(error);
  const { retryAfter } = error.details;
  return given(problem.status, PROBLEM_TYPE, problem, {
    ...(retryAfter === undefined ? {} : { 'Retry-After': String(retryAfter) }),
    ...describedBy(documentation, before.link),
  });
}

/** `Link` to the API's documentation (RFC 8288), behind the links that the response has already. */
function describedBy(
  documentation: string | undefined,
  links: OutgoingHttpHeader | undefined,
): Record<string, string> {
  if (documentation === undefined) return {};
  const link = `<${documentation}>; rel="describedby"; type="text/html"`;
  return { Link: [links ?? [], link].flat().join(', ') };
}

/** An answer to HEAD has no body, so its form and length have to tell. */
function isProblem(response: ServerResponse, body: Buffer, problem: string): boolean {
  if (response.req.method === 'HEAD') {
    return (
      Number(response.getHeader('Content-Length')) === Buffer.byteLength(problem) &&
      String(response.getHeader('Content-Type')).startsWith('application/json')
    );
  }
  try {
    const decode = DECODERS.get(String(response.getHeader('Content-Encoding') ?? '')) ?? ((bytes) => bytes);
    return JSON.stringify(JSON.parse(decode(body).toString())) === problem;
  } catch {
    return false;
  }
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
