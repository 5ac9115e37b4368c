import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { IdempotencyContext } from '../core/protocol';

/** What the module reads of a request, whether it is Express' or Fastify's. */
export interface PlatformRequest {
  readonly method: string;
  readonly url: string;
  readonly originalUrl?: string;
  readonly body?: unknown;
  readonly user?: unknown;
  /** Fastify's: Node's own request behind it. Express' request is Node's own. */
  readonly raw?: IncomingMessage;
}

/** What the module does with a response, whether it is Express' or Fastify's. */
export interface PlatformResponse {
  /** Fastify's: Node's own response behind it. Express' response is Node's own. */
  readonly raw?: ServerResponse;
  getHeaders(): OutgoingHttpHeaders;
  /** Fastify's: tells it that the response is written past it. */
  hijack?(): unknown;
}

export function rawRequest(request: PlatformRequest): IncomingMessage {
  return request.raw ?? (request as unknown as IncomingMessage);
}

export function rawResponse(response: PlatformResponse): ServerResponse {
  return response.raw ?? (response as unknown as ServerResponse);
}

/** What a target in absolute form (RFC 9112, 3.2.2) has before its path: it may hold credentials, and changes no route. */
const ORIGIN = /^https?:\/\/[^/?]*/i;

/** The path as the client sent it, and the query without its question mark. */
export function target(request: PlatformRequest): { readonly path: string; readonly query: string } {
  const url = (request.originalUrl ?? request.url).replace(ORIGIN, '');
  const mark = url.indexOf('?');
  const path = mark < 0 ? url : url.slice(0, mark);
  return { path: path || '/', query: mark < 0 ? '' : url.slice(mark + 1) };
}

const contexts = new WeakMap<object, IdempotencyContext>();

/** Keeps the claim beside the request, for `@IdempotencyClaim()`. */
export function setContext(request: object, context: IdempotencyContext): void {
  contexts.set(request, context);
}

export function contextOf(request: object): IdempotencyContext | undefined {
  return contexts.get(request);
}
