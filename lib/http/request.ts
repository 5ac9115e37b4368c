import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { IdempotencyContext } from '../core/context';
import { normalizedPath } from './path';
import { RoutePattern, type MatchedPath } from './route-pattern';

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

export interface Target {
  /** All spellings of a path that lead to one route, with the same parameters, are one. */
  readonly path: string;
  /** Without its question mark. */
  readonly query: string;
  /** Parameters that are not what the path says, because something has changed one of the two since it was routed. */
  readonly params?: Readonly<Record<string, string>>;
}

/**
 * What was routed. Where the URL is rewritten (`req.url` by middleware, Fastify's `rewriteUrl`), often by a header,
 * what the client sent does not say which resource it is.
 */
export function target(request: PlatformRequest): Target {
  const url = withoutOrigin(request.url);
  const mark = url.indexOf('?');
  const sent = normalizedPath(mark < 0 ? url : url.slice(0, mark));
  const query = mark < 0 ? '' : url.slice(mark + 1);
  const base = request.baseUrl ? normalizedPath(request.baseUrl) : '';
  const pattern = patternOf(request);
  const matched = pattern && (pattern.match(sent) ?? pattern.match(sent.replace(/\/{2,}/g, '/')));
  const path = base + (matched?.path ?? sent) || '/';
  const params = pattern && changedParams(pattern, matched, request.params);
  return params ? { path, query, params } : { path, query };
}

/** The URL that the client sent, if another one was routed: what was rewritten away may be what differs. */
export function rewrittenFrom(request: PlatformRequest): string | undefined {
  const sent = request.originalUrl && withoutOrigin(request.originalUrl);
  const routed = (request.baseUrl ?? '') + withoutOrigin(request.url);
  return !sent || sent === routed ? undefined : normalizedUrl(sent);
}

function normalizedUrl(url: string): string {
  const mark = url.indexOf('?');
  return mark < 0 ? normalizedPath(url) : normalizedPath(url.slice(0, mark)) + url.slice(mark);
}

function withoutOrigin(url: string): string {
  return url.startsWith('/') ? url : url.replace(ORIGIN, '');
}

const patterns = new Map<string, RoutePattern>();

/** Undefined for a route that is a regular expression, or a list. */
function patternOf({ route, routeOptions }: PlatformRequest): RoutePattern | undefined {
  const text = routeOptions ? routeOptions.url : route?.path;
  if (typeof text !== 'string') return undefined;
  let pattern = patterns.get(text);
  if (!pattern) patterns.set(text, (pattern = new RoutePattern(text)));
  return pattern;
}

/** Only texts count: what a guard has loaded in a parameter's place may differ in a retry. */
function changedParams(
  pattern: RoutePattern,
  matched: MatchedPath | undefined,
  params: unknown,
): Record<string, string> | undefined {
  if (typeof params !== 'object' || params === null) return undefined;
  let changed: Record<string, string> | undefined;
  const names = matched ? Object.keys(matched.values) : pattern.names;
  for (const name of names) {
    const value = (params as Readonly<Record<string, unknown>>)[name];
    if (typeof value === 'string' && !isValue(matched?.values[name], value)) (changed ??= {})[name] = value;
  }
  return changed;
}

function isValue(sent: string | undefined, value: string): boolean {
  if (sent === undefined || sent === value) return sent === value;
  if (!sent.includes('%')) return false;
  try {
    return decodeURIComponent(sent) === value;
  } catch {
    return false;
  }
}

const contexts = new WeakMap<object, IdempotencyContext>();

/** Keeps the claim beside the request, for `@IdempotencyClaim()`. */
export function setContext(request: object, context: IdempotencyContext): void {
  contexts.set(request, context);
}

export function contextOf(request: object): IdempotencyContext | undefined {
  return contexts.get(request);
}
