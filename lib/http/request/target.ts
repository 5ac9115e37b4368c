import type { PlatformRequest } from '../platform';
import { normalizedPath } from './path';
import { RoutePattern, type MatchedPath } from './route-pattern';

/** What a target in absolute form (RFC 9112, 3.2.2) has before its path: it may hold credentials, and changes no route. */
const ORIGIN = /^https?:\/\/[^/?]*/i;

export interface Target {
  /** All spellings of a path that lead to one route, with the same parameters, are one. */
  readonly path: string;
  /** Without its question mark, and with a number sign. */
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
  const end = endOfPath(url);
  const sent = normalizedPath(url.slice(0, end));
  const query = url.slice(url[end] === '?' ? end + 1 : end);
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
  const end = endOfPath(url);
  return normalizedPath(url.slice(0, end)) + url.slice(end);
}

/** Both routers end a path at a number sign as well, which no target should have. */
function endOfPath(url: string): number {
  const end = url.search(/[?#]/);
  return end < 0 ? url.length : end;
}

function withoutOrigin(url: string): string {
  return url.startsWith('/') ? url : url.replace(ORIGIN, '');
}

/** Method and pattern of the route, below where its application is mounted; undefined as for {@link patternTextOf}. */
export function routePattern(request: PlatformRequest): string | undefined {
  const pattern = patternTextOf(request);
  return pattern === undefined ? undefined : `${request.method} ${pattern}`;
}

/** Undefined for a route that is a regular expression, or a list. */
function patternTextOf({ route, routeOptions }: PlatformRequest): string | undefined {
  const text = routeOptions ? routeOptions.url : route?.path;
  return typeof text === 'string' ? text : undefined;
}

const patterns = new Map<string, RoutePattern>();

function patternOf(request: PlatformRequest): RoutePattern | undefined {
  const text = patternTextOf(request);
  if (text === undefined) return undefined;
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
