import { inspect, isDeepStrictEqual } from 'node:util';
import { isIdempotencyError } from '../../core/errors';
import type { OnceAnswer } from './http-client';

/** What became of one try. */
export type Attempt =
  | { readonly kind: 'response'; readonly response: OnceAnswer; readonly value: unknown }
  | { readonly kind: 'value'; readonly value: unknown }
  | { readonly kind: 'error'; readonly error: unknown };

/** Sends the request, or calls the function, once. */
export async function attempt(work: () => unknown): Promise<Attempt> {
  try {
    const value: unknown = await work();
    const response = await responseOf(value);
    return response ? { kind: 'response', response, value } : { kind: 'value', value };
  } catch (error) {
    const response = await responseIn(error).catch(() => undefined);
    return response ? { kind: 'response', response, value: undefined } : { kind: 'error', error };
  }
}

/** That of a client that throws what is not a success: axios, got, ky, superagent and ofetch have it in their error. */
async function responseIn(error: unknown): Promise<OnceAnswer | undefined> {
  if (typeof error !== 'object' || error === null) return undefined;
  const { response, data } = error as { readonly response?: unknown; readonly data?: unknown };
  return (await responseOf(response, data)) ?? (await responseOf(error));
}

/** Whether a client would try it again after a while. */
export function isToRetry(attempted: Attempt): boolean {
  switch (attempted.kind) {
    case 'response': {
      const { status, headers } = attempted.response;
      return (
        (status === 409 || status === 503) && headers['retry-after'] !== undefined && !isReplay(attempted)
      );
    }
    case 'value':
      return false;
    case 'error':
      return isIdempotencyError(attempted.error) && attempted.error.details.retryAfter !== undefined;
  }
}

export function isReplay(attempted: Attempt): boolean {
  return attempted.kind === 'response' && attempted.response.headers['idempotent-replayed'] === 'true';
}

/** @param headers names, in lower case, of the headers that count */
export function isSame(one: Attempt, other: Attempt, headers: readonly string[]): boolean {
  if (one.kind === 'response' && other.kind === 'response') {
    const [first, second] = [one.response, other.response];
    return (
      first.status === second.status &&
      first.text === second.text &&
      headers.every((name) => isDeepStrictEqual(first.headers[name], second.headers[name]))
    );
  }
  return one.kind === 'value' && other.kind === 'value' && isDeepStrictEqual(one.value, other.value);
}

const LONGEST = 300;

/** For messages. */
export function textOf(attempted: Attempt): string {
  switch (attempted.kind) {
    case 'response':
      return `${attempted.response.status} ${shortened(attempted.response.text)}`;
    case 'value':
      return shortened(inspect(attempted.value));
    case 'error':
      return shortened(String(attempted.error));
  }
}

function shortened(text: string): string {
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

/**
 * A response of `fetch`, supertest, Fastify's `inject()`, axios, got or pactum; undefined for any other value.
 * @param read what the client has read of a body that can be read once
 */
async function responseOf(value: unknown, read?: unknown): Promise<OnceAnswer | undefined> {
  if (typeof value !== 'object' || value === null) return undefined;
  if (isOfFetch(value))
    return {
      status: value.status,
      headers: Object.fromEntries(value.headers),
      text: value.bodyUsed && read !== undefined ? contentOf(read) : await value.clone().text(),
    };
  const {
    status,
    statusCode = status,
    headers,
    text,
    payload,
    data,
    body,
  } = value as Record<string, unknown>;
  if (typeof statusCode !== 'number' || typeof headers !== 'object' || headers === null) return undefined;
  const content = text ?? payload ?? data ?? body;
  if (isStream(content)) throw new TypeError(UNREAD);
  return {
    status: statusCode,
    headers: { ...headers },
    text: contentOf(content),
  };
}

function contentOf(body: unknown): string {
  return typeof body === 'string' ? body : JSON.stringify(body ?? '');
}

const UNREAD =
  'the function gave back a response whose body is a stream, so answers cannot be compared. Have it give back { statusCode, headers, text } with the text that it has read';

/** By its form: packages such as undici and node-fetch bring another class. */
function isOfFetch(value: object): value is Response {
  const { status, headers, clone, text } = value as Partial<Record<keyof Response, unknown>>;
  return (
    typeof status === 'number' &&
    typeof clone === 'function' &&
    typeof text === 'function' &&
    typeof headers === 'object' &&
    headers !== null &&
    Symbol.iterator in headers
  );
}

function isStream(value: unknown): boolean {
  return typeof value === 'object' && value !== null && ('pipe' in value || 'getReader' in value);
}
