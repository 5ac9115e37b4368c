import { types } from 'node:util';
import { NotComparableError, spellBytes, Spelling } from './spelling';

/** Spells a member of the value at hand. */
type Spell = (member: unknown) => string;

type Pair = readonly [name: unknown, value: unknown];

/** Of a form. */
export type Field = readonly [name: string, value: unknown];

/**
 * The canonical spelling of an object that JSON has no form for: by its data, by its bytes, or by its `toJSON()`.
 * @throws NotComparableError for anything else: what a class keeps in private fields cannot be seen
 */
export function spellOther(value: object, spell: Spell): string {
  if (ArrayBuffer.isView(value))
    return spellBytes(tagOf(value), new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
  if (types.isAnyArrayBuffer(value)) return spellBytes('ArrayBuffer', new Uint8Array(value));
  if (types.isDate(value)) return `Date(${Date.prototype.getTime.call(value)})`;
  if (types.isRegExp(value)) return `RegExp(${spell(value.source)},${spell(value.flags)})`;
  if (types.isMap(value)) return spellAll('Map', entries(value, spell).sort());
  if (types.isSet(value)) return spellAll('Set', Array.from(value, spell).sort());
  if (types.isBoxedPrimitive(value)) return spell(value.valueOf());
  switch (tagOf(value)) {
    case 'URLSearchParams':
    case 'FormData':
      return spellPairs(value as Iterable<Field>, spell);
    case 'Blob':
    case 'File':
      throw new NotComparableError('a Blob or File, whose bytes are not in memory');
  }
  return isStream(value) ? 'stream' : spellByJson(value, spell);
}

/** Names and values, of which the order among equal names counts. */
export function spellPairs(fields: Iterable<Field>, spell: Spell): string {
  const byName = new Map<string, Spelling>();
  for (const [name, value] of fields) {
    let values = byName.get(name);
    if (!values) byName.set(name, (values = new Spelling('[')));
    values.add(`${spell(value)},`);
  }
  const spelling = new Spelling('pairs(');
  for (const name of [...byName.keys()].sort()) spelling.add(`${spell(name)}:${byName.get(name)?.end(']')},`);
  return spelling.end(')');
}

/** A stream has not been read when interceptors start, so that what it holds is not part of the body. */
export function isStream(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return (
    ('pipe' in value && typeof value.pipe === 'function') ||
    ('getReader' in value && typeof value.getReader === 'function')
  );
}

/** The value's own spelling where it has a `toJSON()`; nothing else tells what an instance of a class holds. */
export function spellByJson(value: object, spell: Spell): string {
  if (!hasToJson(value)) throw new NotComparableError(`an instance of ${nameOf(value)}`);
  const json = value.toJSON('');
  if (json === value) throw new NotComparableError(`an instance of ${nameOf(value)}`);
  return spellAll('toJSON', [spell(json)]);
}

export function hasToJson(value: object): value is { toJSON(name: string): unknown } {
  return 'toJSON' in value && typeof value.toJSON === 'function';
}

function entries(pairs: Iterable<Pair>, spell: Spell): string[] {
  return Array.from(pairs, ([name, value]) => `${spell(name)}:${spell(value)}`);
}

function spellAll(name: string, members: readonly string[]): string {
  const spelling = new Spelling(`${name}(`);
  for (const member of members) spelling.add(`${member},`);
  return spelling.end(')');
}

function tagOf(value: object): string {
  return Object.prototype.toString.call(value).slice('[object '.length, -1);
}

function nameOf(value: object): string {
  return typeof value.constructor === 'function' ? value.constructor.name : 'a class';
}
