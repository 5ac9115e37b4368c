import type { CallerName, ScopeAnswer } from '../../../options/idempotency.options';
import { canonical } from '../fingerprint/canonical';

/** A user as a guard or middleware has set it, by the first of these that it has. */
export interface ScopeUser {
  readonly id?: CallerName;
  readonly sub?: CallerName;
  readonly userId?: CallerName;
}

/** What can select a handler besides method and path. */
export interface ScopeSelectors {
  /** For a controller with `host`: the host name. For Fastify's constraint `host`: the `Host` header, port included. */
  readonly host?: string;
  /** The version that was asked for, if not by the path. */
  readonly version?: unknown;
  /**
   * Fastify's other constraints by name, as they were derived from the request; `host` among them where its strategy is
   * your own, or where the controller has a `host` as well.
   */
  readonly constraints?: Readonly<Record<string, unknown>>;
  /** Path parameters, as texts, that are not what the URL says, because something has changed one of the two. */
  readonly params?: Readonly<Record<string, string>>;
}

/** The caller, named by its origin. */
export type Principal =
  | { readonly scope: ScopeAnswer }
  | { readonly user: readonly [property: keyof ScopeUser, id: CallerName] }
  | { readonly credentials: string };

/**
 * The text under which records are filed. Each part is led by what it is, and spaces and commas of its values are escaped,
 * so no two combinations read alike; and it is ASCII, which any database can store.
 */
export function scopeText(
  method: string,
  path: string,
  { host, version, constraints, params }: ScopeSelectors,
  principal: Principal | undefined,
): string {
  let text = `${method} ${path}`;
  if (host !== undefined) text += ` host:${escaped(host.toLowerCase())}`;
  if (version !== undefined) text += ` version:${typed(version)}`;
  if (constraints) text += named('constraint', constraints);
  if (params) text += named('param', params);
  return principal ? `${text} ${principalText(principal)}` : text;
}

/** A text of one part: printable ASCII without space, comma, colon and percent sign, and those as `%`-sequences. */
export function escaped(text: string): string {
  return text.replace(/[^!-$&-+\--9;-~]/gu, (character) =>
    // A lone surrogate has no UTF-8. No other sequence begins with %u.
    character.isWellFormed()
      ? encodeURIComponent(character)
      : `%u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** The caller within a scope text. */
export function principalText(principal: Principal): string {
  if ('scope' in principal) return `scope:${typed(principal.scope)}`;
  if ('user' in principal) return `user.${principal.user[0]}:${typed(principal.user[1])}`;
  return `credentials:${principal.credentials}`;
}

function named(kind: string, values: Readonly<Record<string, unknown>>): string {
  return Object.keys(values)
    .sort()
    .map((name) => ` ${kind}.${escaped(name)}:${typed(values[name])}`)
    .join('');
}

/** A value with its type in front. A list has its length as well, so that lists within lists are unambiguous, too. */
function typed(value: unknown): string {
  if (Array.isArray(value)) return [`l:${value.length}`, ...value.map(typed)].join(',');
  if (typeof value === 'string') return `s:${escaped(value)}`;
  if (typeof value === 'number') return `n:${value}`;
  if (typeof value === 'bigint') return `b:${value}`;
  if (typeof value === 'object' && value !== null) return `j:${escaped(spelledData(value))}`;
  return `o:${escaped(String(value))}`;
}

function spelledData(value: object): string {
  try {
    return canonical(value);
  } catch (cause) {
    throw new TypeError(
      'What selects the route of this request (a version, a constraint) cannot be compared as data: have its ' +
        'extractor or strategy give a text',
      { cause },
    );
  }
}
