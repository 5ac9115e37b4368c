import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { IdempotencyContext } from '../core/context';

/** What the module reads of a request, whether it is Express' or Fastify's. */
export interface PlatformRequest {
  readonly method: string;
  readonly url: string;
  /** As the client sent it. */
  readonly originalUrl?: string;
  /** Express': what mounting an application under a path has taken off the URL. */
  readonly baseUrl?: string;
  readonly body?: unknown;
  /** The bytes of the body, where the application keeps them (`rawBody: true`). */
  readonly rawBody?: unknown;
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

/** Nest's middleware is given Node's own request, on Fastify too, and leaves the user there. */
export function userOf(request: PlatformRequest): unknown {
  return request.user ?? (rawRequest(request) as IncomingMessage & { readonly user?: unknown }).user;
}

/** What a target in absolute form (RFC 9112, 3.2.2) has before its path: it may hold credentials, and changes no route. */
const ORIGIN = /^https?:\/\/[^/?]*/i;

/**
 * The path as it was routed, and the query without its question mark. Where the URL is rewritten (`req.url` by
 * middleware, Fastify's `rewriteUrl`), often by a header, what the client sent does not say which resource it is.
 */
export function target(request: PlatformRequest): { readonly path: string; readonly query: string } {
  const url = routedUrl(request);
  const mark = url.indexOf('?');
  const path = mark < 0 ? url : url.slice(0, mark);
  return { path: path || '/', query: mark < 0 ? '' : url.slice(mark + 1) };
}

/** The URL that the client sent, if another one was routed: what was rewritten away may be what differs. */
export function rewrittenFrom(request: PlatformRequest): string | undefined {
  const sent = request.originalUrl && withoutOrigin(request.originalUrl);
  return sent === routedUrl(request) ? undefined : sent;
}

function routedUrl(request: PlatformRequest): string {
  return (request.baseUrl ?? '') + withoutOrigin(request.url);
}

function withoutOrigin(url: string): string {
  return url.startsWith('/') ? url : url.replace(ORIGIN, '');
}

const contexts = new WeakMap<object, IdempotencyContext>();

/** Keeps the claim beside the request, for `@IdempotencyClaim()`. */
export function setContext(request: object, context: IdempotencyContext): void {
  contexts.set(request, context);
}

export function contextOf(request: object): IdempotencyContext | undefined {
  return contexts.get(request);
}
