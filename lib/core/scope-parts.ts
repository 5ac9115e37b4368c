/*
 * What a scope text says. Values in it hold no space (http/request/caller/scope-text.ts), so its parts can be read back.
 * Both patterns mean the same in JavaScript and in Postgres.
 */

/** Method and path. */
export const ROUTE_PATTERN = '^[A-Z-]+ /[^ ]*';

/** The caller, which comes last. */
export const CALLER_PATTERN = ' ((?:user\\.(?:id|sub|userId)|scope|credentials):[^ ]+)$';

const ROUTE = new RegExp(ROUTE_PATTERN);
const CALLER = new RegExp(CALLER_PATTERN);

/** Method and path, as in `POST /leads/7`; undefined for a scope that is not of an HTTP route. */
export function routeOf(scope: string): string | undefined {
  return ROUTE.exec(scope)?.[0];
}

/** A route without its segments that are most likely values of parameters. */
export function withoutIds(route: string): string {
  return route.replace(
    /\/(?:\d+|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16,}|[0-9A-HJKMNP-TV-Z]{26})(?=\/|$)/gi,
    '/:id',
  );
}

/** The caller, as in `user.id:s:u7`; undefined where callers share their keys. */
export function callerOf(scope: string): string | undefined {
  return CALLER.exec(scope)?.[1];
}
