import { normalizedPath } from './path';

/** A path as the route spells it, and the values of its parameters as the path has them, percent-encoded. */
export interface MatchedPath {
  readonly path: string;
  readonly values: Readonly<Record<string, string>>;
}

/** One way to read a pattern: its text, its parameters, and nothing optional. */
interface Variant {
  readonly matcher: RegExp;
  /** Text that the route spells, and between each two, what is taken from the path. */
  readonly texts: readonly string[];
  /** The names of what is taken from the path; undefined where several parameters share a segment. */
  readonly names: readonly (string | undefined)[];
}

/** More ways to read one pattern than routes have. */
const MOST_VARIANTS = 16;

/** A segment with one parameter: `:id`, `user-:id`, `:id.json`. */
const ONE_PARAMETER =
  /^([\w.~!$&'@=;,-]*):([\p{ID_Start}$_][\p{ID_Continue}$]*)((?:[.-][\w.~!$&'@=;,-]*)?)$/u;
/** A segment that holds text alone, in the languages of both routers. */
const TEXT = /^[^:*{}()[\]\\?+|^"]*$/;
/** What ends a pattern that matches any number of segments. */
const WILDCARD = /^\*[\p{ID_Continue}$]*$/u;
/** The last parameter of a pattern, where the router may find none: Fastify's and Express 4's `/:id?`. */
const OPTIONAL_LAST = /^(.*)(\/:[\p{ID_Continue}$]+)\?$/u;

/**
 * A route's pattern, in the language of Express' router (path-to-regexp) or Fastify's (find-my-way). It finds which
 * parts of a path the route spells, so that all spellings that reach the route become one. Parts that it does not
 * understand stay as the request spells them.
 */
export class RoutePattern {
  private readonly variants: readonly Variant[];
  /** All that a pattern without parameters can match, for most requests spelled as here. */
  private readonly only: MatchedPath | undefined;

  /** @param pattern as the router was given it */
  constructor(pattern: string) {
    const ways = waysToRead(pattern);
    this.variants = ways.length > MOST_VARIANTS ? [] : ways.map(variantOf);
    const [first] = this.variants;
    if (first && this.variants.length === 1 && first.names.length === 0)
      this.only = { path: first.texts.join(''), values: {} };
  }

  /**
   * Undefined if the path, normalized, is none of this route, or if it can be read in two ways that differ.
   */
  match(path: string): MatchedPath | undefined {
    if (path === this.only?.path) return this.only;
    let found: MatchedPath | undefined;
    for (const variant of this.variants) {
      const match = variant.matcher.exec(path);
      if (!match) continue;
      const each = spelled(variant, match);
      if (found && found.path !== each.path) return undefined;
      found ??= each;
    }
    return found;
  }

  /** The names of all parameters; none where some part of the pattern is not understood. */
  get names(): readonly string[] {
    const names = this.variants.flatMap((variant) => variant.names);
    return names.every((name) => name !== undefined) ? [...new Set(names)] : [];
  }
}

function spelled({ texts, names }: Variant, match: RegExpExecArray): MatchedPath {
  let path = texts[0] ?? '';
  const values: Record<string, string> = {};
  names.forEach((name, i) => {
    const value = match[i + 1] ?? '';
    if (name !== undefined) values[name] = value;
    path += value + (texts[i + 1] ?? '');
  });
  return { path, values };
}

/** The pattern with each of its optional parts, `{/:id}` or a last `/:id?`, there and not there. */
function waysToRead(pattern: string): string[] {
  const optional = OPTIONAL_LAST.exec(pattern);
  if (optional) return [optional[1] === '' ? '/' : (optional[1] ?? ''), `${optional[1]}${optional[2]}`];
  const close = pattern.indexOf('}');
  const open = pattern.lastIndexOf('{', close);
  if (close < 0 || open < 0) return [pattern];
  const [before, inner, after] = [
    pattern.slice(0, open),
    pattern.slice(open + 1, close),
    pattern.slice(close + 1),
  ];
  const ways: string[] = [];
  for (const each of [before + inner + after, before + after]) {
    ways.push(...waysToRead(each));
    if (ways.length > MOST_VARIANTS) break;
  }
  return [...new Set(ways)];
}

function variantOf(pattern: string): Variant {
  const texts: string[] = [''];
  const names: (string | undefined)[] = [];
  let source = '';
  const text = (spelling: string): void => {
    const normalized = normalizedPath(spelling);
    texts.push((texts.pop() ?? '') + normalized);
    source += normalized.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  };
  const taken = (matcher: string, name?: string): void => {
    names.push(name);
    texts.push('');
    source += matcher;
  };
  const segments = pattern.split('/');
  for (const [i, segment] of segments.entries()) {
    if (i > 0) text('/');
    const one = ONE_PARAMETER.exec(segment);
    if (TEXT.test(segment)) text(segment);
    else if (one) {
      text(one[1] ?? '');
      taken('([^/]+)', one[2]);
      text(one[3] ?? '');
    } else if (i === segments.length - 1 && WILDCARD.test(segment)) taken('(.*)');
    else taken('([^/]*)');
  }
  // A router that is told to ignore the last slash, or to demand it, has seen to it.
  return { matcher: new RegExp(`^${source.replace(/\/$/, '')}/?$`, 'i'), texts, names };
}
