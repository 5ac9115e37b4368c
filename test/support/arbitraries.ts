import fc from 'fast-check';

const FACTOR = Number(process.env.PROPERTY_RUNS ?? 1);

/** How often a property is tried; PROPERTY_RUNS=20 tries all of them twenty times as often. */
export function runs(usual: number): { numRuns: number } {
  return { numRuns: Math.ceil(usual * FACTOR) };
}

/** Texts that have broken parsers, stores, logs and comparisons before. */
const CURSED = [
  '',
  ' ',
  '\0',
  '\ud800',
  '\udfff',
  '\udfff\ud800',
  '\ufeff',
  '\ufffd',
  '\u202e',
  'é',
  'e\u0301',
  'Å',
  'A\u030a',
  '\u2028',
  '\r\n',
  'a\r\nX-Injected: yes',
  '__proto__',
  'constructor',
  'prototype',
  'toJSON',
  'hasOwnProperty',
  'length',
  'NaN',
  'Infinity',
  '-0',
  '1',
  '1.0',
  '1e400',
  'null',
  'undefined',
  'true',
  '[object Object]',
  "'; DROP TABLE idempotency_cache; --",
  '$1',
  '%s%n',
  '{{7*7}}',
  '*',
  '\\u0000',
  '\\ud800',
  '"',
  '\\',
  'POST /a b',
  '3:abc',
];

/** Any UTF-16, well-formed or not, in the usual sizes. */
export const text = fc.oneof(
  fc.constantFrom(...CURSED),
  fc.string({ unit: 'binary' }),
  fc.string({ unit: fc.constantFrom('\ud800', '\udc00', '\udfff', '\ufffd', 'a', '\0', ' ', '\n') }),
);

const scalar = fc.oneof(
  text,
  fc.constantFrom(0, -0, 1, -1, 0.1, 1e21, 1e-7, 2 ** 53, 2 ** 53 + 2, 5e-324, Number.MAX_VALUE),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.maxSafeInteger(),
  fc.boolean(),
  fc.constant(null),
);

/** A value that JSON can spell, with own properties such as `__proto__`, as `JSON.parse` makes them. */
export const json: fc.Arbitrary<unknown> = fc.letrec<{ value: unknown; members: [string, unknown][] }>(
  (tie) => ({
    value: fc.oneof(
      { maxDepth: 4, withCrossShrink: true },
      scalar,
      fc.array(tie('value'), { maxLength: 4 }),
      tie('members').map(objectOf),
    ),
    members: fc.uniqueArray(fc.tuple(text, tie('value')), { selector: ([name]) => name, maxLength: 4 }),
  }),
).value;

/** An object with these as its own properties, `__proto__` too. */
function objectOf(members: readonly (readonly [string, unknown])[]): Record<string, unknown> {
  const object: Record<string, unknown> = {};
  for (const [name, value] of members) {
    Object.defineProperty(object, name, { value, enumerable: true, configurable: true, writable: true });
  }
  return object;
}

/** The same value with the properties of every object in reverse order. */
export function reordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reordered);
  if (typeof value !== 'object' || value === null) return value;
  return objectOf(
    Object.entries(value)
      .reverse()
      .map(([name, member]) => [name, reordered(member)] as const),
  );
}

/**
 * Whether a handler would see no difference, by a rule that shares nothing with the code under test: the same kind,
 * the same numbers (0 and -0 are one), the same UTF-16, the same members in any order.
 */
export function sameValue(a: unknown, b: unknown): boolean {
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return a === b;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const names = Object.keys(a);
  return (
    names.length === Object.keys(b).length &&
    names.every(
      (name) =>
        Object.hasOwn(b, name) &&
        sameValue((a as Record<string, unknown>)[name], (b as Record<string, unknown>)[name]),
    )
  );
}

/** The same value with one place changed to something else. */
export function changed(value: unknown, pick: number, to: unknown): unknown {
  if (typeof value !== 'object' || value === null) return to;
  const names = Object.keys(value);
  const at = names[pick % (names.length + 1)];
  if (at === undefined) return to;
  const member = changed((value as Record<string, unknown>)[at], Math.floor(pick / (names.length + 1)), to);
  if (Array.isArray(value)) return value.map((each: unknown, i) => (String(i) === at ? member : each));
  return objectOf(Object.entries(value).map(([name, each]) => [name, name === at ? member : each] as const));
}
