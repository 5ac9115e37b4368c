import { z } from 'zod';
import { RECORD_STATES, type RecordSelection } from '../core/record-directory';
import { principalOfScope } from '../http/request/caller/principal';
import { principalText } from '../http/request/caller/scope-text';
import { normalizedPath } from '../http/request/path';
import type { CallerName, ScopeAnswer } from '../options/idempotency.options';
import { duration, integer, oneOf, text } from '../options/schemas';
import { InvalidOptionsError, validate } from '../options/validate';

const ROUTE = /^(?:([A-Z-]+) )?(\/[^ ?]*)$/;
const ROUTE_FORM =
  "a path with its prefix, or method and path, such as '/api/leads' or 'POST /api/leads/:id'";
const PRINCIPAL_FORM =
  'a name, a list of names as the `scope` option gives it, or { text } as `list` gives it';

const CALLER = /^(?:user\.(?:id|sub|userId)|scope|credentials):[^ ]+$/;
const CALLER_FORM = "a principal as `list` gives it, such as 'user.id:s:u7'";
const callerText = z.string({ error: CALLER_FORM }).regex(CALLER, { error: CALLER_FORM });

/** Of a purge that gives none, all records would be meant. */
const conditions = {
  scope: text.optional(),
  route: z.string({ error: ROUTE_FORM }).regex(ROUTE, { error: ROUTE_FORM }).optional(),
  principal: z
    .union(
      [
        z.strictObject({
          text: z.union([callerText, z.array(callerText).min(1, { error: CALLER_FORM })], {
            error: CALLER_FORM,
          }),
        }),
        z.custom<ScopeAnswer>(isScopeAnswer),
      ],
      { error: PRINCIPAL_FORM },
    )
    .optional(),
  key: text.optional(),
  olderThan: duration(0).optional(),
};

const filterSchema = z.strictObject(conditions);
const listSchema = z.strictObject({
  ...conditions,
  state: oneOf(...RECORD_STATES).optional(),
  cursor: text.optional(),
  limit: integer(1, 1_000).optional(),
});

/**
 * The records that a purge means.
 * @throws InvalidOptionsError also if no condition is given
 */
export function selectionToPurge(where: string, filter: unknown): RecordSelection {
  const missing = Object.entries(filter ?? {}).find(([, value]) => value === undefined);
  if (missing)
    throw new InvalidOptionsError(where, [
      `option "${missing[0]}" is undefined, so more records would be deleted than it says: leave it out, or give it a value`,
    ]);
  const selection = selectionOf(validate(filterSchema, filter, where));
  if (Object.keys(selection).length > 0) return selection;
  throw new InvalidOptionsError(where, [
    'no condition is given, so all records would be deleted: give scope, route, principal, key or olderThan',
  ]);
}

/**
 * What `list` is asked for.
 * @throws InvalidOptionsError
 */
export function selectionToList(
  where: string,
  options: unknown,
): {
  readonly selection: RecordSelection;
  readonly limit: number | undefined;
  readonly cursor: string | undefined;
} {
  const { state, limit, cursor, ...filter } = validate(listSchema, options, where);
  return { selection: { ...selectionOf(filter), ...(state && { state }) }, limit, cursor };
}

function selectionOf(given: z.output<typeof filterSchema>): RecordSelection {
  const { scope, route, principal, key, olderThan } = given;
  return {
    ...(scope === undefined ? {} : { scope }),
    ...(key === undefined ? {} : { key }),
    ...(olderThan === undefined ? {} : { olderThan }),
    ...(route === undefined ? {} : { route: routePattern(route) }),
    ...(principal === undefined ? {} : { principals: callers(principal) }),
  };
}

/** A regular expression for scopes, which Postgres reads as JavaScript does. */
function routePattern(route: string): string {
  const [, method = '[A-Z-]+', path = ''] = ROUTE.exec(route) ?? [];
  const segments = path.split('/').map((segment) => {
    if (/^:\w+$/.test(segment)) return '[^/ ]+';
    if (/^\*\w*$/.test(segment)) return '[^ ]*';
    return normalizedPath(segment).replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  });
  return `^${method} ${segments.join('/')}(?: |$)`;
}

/** As scopes spell them. */
function callers(principal: ScopeAnswer | { readonly text: string | string[] }): string[] {
  if (typeof principal === 'object' && 'text' in principal) return [principal.text].flat();
  return Array.isArray(principal)
    ? [principalText({ scope: principal as CallerName[] })]
    : callersNamed(principal as CallerName);
}

/** A caller as `list` gives it, or its name. */
export function callersTyped(typed: string): string[] {
  return callerText.safeParse(typed).success ? [typed] : callersCalled(typed);
}

/** What is typed has no type: `7` may be a text or a number. */
export function callersCalled(name: string): string[] {
  // `007` is a text: no number is spelled so.
  const number =
    String(Number(name)) === name && Number.isFinite(Number(name)) ? callersNamed(Number(name)) : [];
  const bigint = /^(?:0|-?[1-9]\d*)$/.test(name) ? callersNamed(BigInt(name)) : [];
  return [...callersNamed(name), ...number, ...bigint];
}

/** A name alone may come from a user or from the `scope` option. */
function callersNamed(name: CallerName): string[] {
  const ofUsers = (['id', 'sub', 'userId'] as const).map((property) =>
    principalText({ user: [property, name] }),
  );
  return [principalText({ scope: name }), ...ofUsers];
}

function isScopeAnswer(value: unknown): boolean {
  try {
    return principalOfScope(value) !== undefined;
  } catch {
    return false;
  }
}
