import { IdempotencyError, isIdempotencyError } from '../../../core/errors';
import { bytesOf } from '../../../core/digest';
import { hasToJson, isStream, spellByJson, spellOther, spellPairs, type Field } from './other-kinds';
import { LONGEST, NotComparableError, spellBytes, Spelling } from './spelling';

/** Deeper than bodies are. Values are walked by recursion, which has no room for any depth. */
const DEEPEST = 500;

/** How many levels from the top each value is compared with. A circle that begins below them is found at the deepest. */
const WATCHED = 32;

/** Shorter spellings are made anew where a value is referred to again; that is cheaper than to keep them. */
const WORTH_KEEPING = 64;

/** Names that are sorted by insertion. */
const FEW = 12;

/** A value that holds itself. */
class Circular extends Error {}

/**
 * Spells data so that equal data is spelled alike and other data is not, in any order of its properties and
 * however often it refers to one object. Long spellings are digests. The cost is linear in the size of the data:
 * objects and long texts that are referred to again are not walked again.
 * @throws IdempotencyError `body_too_deep`
 * @throws NotComparableError for what has no form that could be compared
 */
export function canonical(value: unknown): string {
  return guarded(() => {
    try {
      return new CanonicalWalk().spell(value);
    } catch (error) {
      if (!(error instanceof Circular)) throw error;
      return `circular(${new CanonicalWalk(new Map()).spell(value)})`;
    }
  });
}

/** {@link canonical} the fields of a form, whose order counts only among equal names. */
export function canonicalPairs(fields: Iterable<Field>): string {
  return guarded(() => {
    const walk = new CanonicalWalk();
    return spellPairs(fields, (member) => walk.spell(member));
  });
}

function guarded(spell: () => string): string {
  try {
    return spell();
  } catch (cause) {
    if (isIdempotencyError(cause) || cause instanceof NotComparableError) throw cause;
    throw new NotComparableError('something that cannot be read', cause);
  }
}

class CanonicalWalk {
  private kept: Map<unknown, string> | undefined;
  private readonly path: object[] = [];
  private readonly spellMember = (member: unknown): string => this.spell(member);

  /** @param numbers given for data with a circle: an object is then spelled once, and is its number from there on */
  constructor(private readonly numbers?: Map<object, number>) {}

  spell(value: unknown): string {
    switch (typeof value) {
      case 'string':
        return this.text(value);
      case 'number':
        return String(value); // 0 and -0 are one number to JSON
      case 'object':
        return value === null ? 'null' : this.object(value);
      case 'boolean':
      case 'undefined':
        return String(value);
      case 'bigint':
        return `bigint(${this.text(value.toString(16))})`; // decimal digits would take time in the square of their number
      case 'function':
      case 'symbol':
        throw new NotComparableError(`a ${typeof value}`);
    }
  }

  private text(value: string): string {
    if (value.length <= LONGEST) return quoted(value);
    return this.kept?.get(value) ?? this.keep(value, spellBytes('text', bytesOf(value)));
  }

  private object(value: object): string {
    const known = this.numbers ? this.number(value) : this.kept?.get(value);
    if (known !== undefined) return known;
    if (!this.numbers && this.isWithin(value)) throw new Circular();
    if (this.path.length === DEEPEST) {
      if (new Set(this.path).size < DEEPEST) throw new Circular();
      throw new IdempotencyError(
        'body_too_deep',
        `The request body is nested more than ${DEEPEST} levels deep, too deeply to be compared with a retry.`,
      );
    }
    this.path.push(value);
    const spelling = this.composed(value);
    this.path.pop();
    // Data refers to its outermost object in a circle alone.
    const again = this.path.length > 0 && spelling.length > WORTH_KEEPING;
    return again ? this.keep(value, spelling) : spelling;
  }

  /** All levels of each value would make 500 times the work of a body that is deep and wide. */
  private isWithin(value: object): boolean {
    for (let i = 0; i < WATCHED && i < this.path.length; i += 1) if (this.path[i] === value) return true;
    return false;
  }

  private keep(value: unknown, spelling: string): string {
    (this.kept ??= new Map()).set(value, spelling);
    return spelling;
  }

  private number(value: object): string | undefined {
    const number = this.numbers?.get(value);
    if (number !== undefined) return `^${number}`;
    this.numbers?.set(value, this.numbers.size);
    return undefined;
  }

  private composed(value: object): string {
    if (isList(value)) return this.list(value);
    if (!isPlain(value)) return spellOther(value, this.spellMember);
    return hasToJson(value) ? spellByJson(value, this.spellMember) : this.members(value);
  }

  private list(values: readonly unknown[]): string {
    const spelling = new Spelling('[');
    for (let i = 0; i < values.length; i += 1) {
      const value = values[i];
      // Its length says nothing about what a list with holes costs.
      if (value === undefined && !(i in values)) return `holes(${values.length},${this.members(values)})`;
      spelling.add(`${this.spell(value)},`);
    }
    return spelling.end(']');
  }

  private members(value: object): string {
    const spelling = new Spelling('{');
    for (const name of sorted(Object.keys(value))) {
      const member = (value as Record<string, unknown>)[name];
      if (typeof member === 'function' && isFileOfFastify(value)) continue;
      spelling.add(`${this.text(name)}:${this.spell(member)},`);
    }
    return spelling.end('}');
  }
}

/** Its length tells where it ends, which is cheaper than escapes. UTF-8 makes one character of all lone surrogates. */
function quoted(value: string): string {
  return value.isWellFormed() ? `"${value.length}:${value}` : `\\${JSON.stringify(value)}`;
}

/** Most objects have a few names, which are sorted here in half the time. */
function sorted(names: string[]): string[] {
  if (names.length > FEW) return names.sort();
  for (let i = 1; i < names.length; i += 1) {
    const name = names[i] ?? '';
    let at = i;
    for (let before = names[at - 1]; before !== undefined && before > name; before = names[at - 1])
      names[at--] = before;
    names[at] = name;
  }
  return names;
}

/** An array, from any realm, but no instance of a class that extends it. */
function isList(value: object): value is readonly unknown[] {
  return Array.isArray(value) && Array.isArray(Object.getPrototypeOf(value));
}

/** An object of data: from this realm or another, without a prototype, or with an empty one (Fastify's forms). */
function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value) as object | null;
  if (prototype === Object.prototype || prototype === null) return true;
  if (Object.getPrototypeOf(prototype) !== null) return false;
  return Object.hasOwn(prototype, 'isPrototypeOf') || Reflect.ownKeys(prototype).length === 0;
}

/** `@fastify/multipart` puts such an object into the body with `attachFieldsToBody: true`; its method holds no data. */
function isFileOfFastify(value: object): boolean {
  return 'toBuffer' in value && 'file' in value && isStream(value.file);
}
