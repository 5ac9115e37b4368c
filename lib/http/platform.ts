import type { ExecutionContext } from '@nestjs/common';
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';

export type Handler = ReturnType<ExecutionContext['getHandler']>;

/** What the module reads of a request, whether it is Express' or Fastify's. */
export interface PlatformRequest {
  readonly method: string;
  readonly url: string;
  /** As the client sent it. */
  readonly originalUrl?: string;
  /** Express': what mounting an application under a path has taken off the URL. */
  readonly baseUrl?: string;
  /** Of the path, decoded. */
  readonly params?: unknown;
  /** Express': the route that was matched, with its pattern below `baseUrl`. */
  readonly route?: { readonly path?: unknown };
  /** Fastify's: the same. */
  readonly routeOptions?: { readonly url?: string };
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

/** Libraries that have Nest call a handler may say that it is HTTP, and give it other arguments than a request. */
export function isHttpRequest(context: ExecutionContext): boolean {
  if (context.getType() !== 'http') return false;
  const request = context.getArgByIndex<Partial<PlatformRequest> | null | undefined>(0);
  return typeof request?.method === 'string';
}

/** Of an HTTP context. `switchToHttp()` would make three functions each time. */
export function requestOf(context: ExecutionContext): PlatformRequest {
  return context.getArgByIndex<PlatformRequest>(0);
}

/** Likewise. */
export function responseOf(context: ExecutionContext): PlatformResponse {
  return context.getArgByIndex<PlatformResponse>(1);
}

export function rawRequest(request: PlatformRequest): IncomingMessage {
  return request.raw ?? (request as unknown as IncomingMessage);
}

export function rawResponse(response: PlatformResponse): ServerResponse {
  return response.raw ?? (response as unknown as ServerResponse);
}

interface Http2Response {
  readonly stream: { readonly destroyed: boolean; close(code: number): void };
}

export function isHttp2(response: object): response is Http2Response {
  return 'stream' in response;
}

/** Nest's middleware is given Node's own request, on Fastify too, and leaves the user there. */
export function userOf(request: PlatformRequest): unknown {
  return request.user ?? (rawRequest(request) as IncomingMessage & { readonly user?: unknown }).user;
}

/** Of class and method. */
export function routeName(context: ExecutionContext): string {
  return `${context.getClass().name}.${context.getHandler().name}`;
}

/** Fastify has no body for what Nest's middleware has parsed: that lies on Node's request. */
export function bodyOf(request: PlatformRequest): unknown {
  return request.body === undefined
    ? (rawRequest(request) as { readonly body?: unknown }).body
    : request.body;
}
