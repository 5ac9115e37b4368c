import fc from 'fast-check';
import { bytesOf } from '../../../../lib/core/digest';
import { recordId } from '../../../../lib/core/record';
import { httpScope, type HttpCaller } from '../../../../lib/http/request/caller/http-scope';
import type { CallerName } from '../../../../lib/options/idempotency.options';
import { runs, text } from '../../../support/arbitraries';

describe('the text of a scope', () => {
  /** Of one spelling each: all that is not unreserved is percent-encoded. */
  const path = fc
    .array(
      text.map((each) => encodeURIComponent(each.toWellFormed())),
      { maxLength: 3 },
    )
    .map((segments) => `/${segments.join('/')}`);
  const one = text.filter((each) => each !== '');
  const aName: fc.Arbitrary<CallerName> = fc.oneof(
    one,
    fc.constantFrom('7', 'l:1', 's:7', 's:7,s:8', '7 user.id:s:7', 'credentials:7', '7\nscope:s:7', '7%207'),
    fc.integer(),
    fc.bigInt(),
  );
  const caller: fc.Arbitrary<HttpCaller> = fc.oneof(
    fc.constant({}),
    fc.oneof(aName, fc.array(aName, { minLength: 1, maxLength: 3 })).map((scope) => ({ scope })),
    fc
      .tuple(fc.constantFrom('id', 'sub', 'userId'), aName)
      .map(([property, id]) => ({ user: { [property]: id } })),
    fc.tuple(fc.constantFrom('authorization', 'x-api-key'), one).map(([name, value]) => ({
      credentials: { [name]: value },
    })),
  );
  const optional = <T>(values: fc.Arbitrary<T>) => fc.option(values, { nil: undefined, freq: 3 });
  const selectors = fc.record({
    host: optional(text.map((each) => each.toLowerCase())),
    version: optional(fc.oneof(text, fc.array(text, { maxLength: 2 }))),
    constraints: optional(fc.dictionary(one, text, { minKeys: 1, maxKeys: 2, noNullPrototype: true })),
    params: optional(fc.dictionary(one, text, { minKeys: 1, maxKeys: 2, noNullPrototype: true })),
  });
  const names = fc.record({
    method: fc.constantFrom('POST', 'PUT', 'M-SEARCH'),
    path,
    selectors,
    caller,
    key: text,
  });
  type Names = typeof names extends fc.Arbitrary<infer T> ? T : never;
  const idOf = ({ method, path: where, selectors: by, caller: who, key }: Names): string =>
    recordId(httpScope(method, where, { ...by, ...who }), key).hash;
  /** JSON, in which lone surrogates, and numbers of both kinds, are written differently. */
  const written = (value: unknown): string =>
    JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? { bigint: String(each) } : each));

  it('never names the record of another method, path, host, version, constraint, caller or key', () => {
    fc.assert(
      fc.property(names, names, (a, b) => {
        expect(idOf(a) === idOf(b)).toBe(written(sorted(a)) === written(sorted(b)));
        // One part borrowed from the other at a time, where a mix-up would show.
        for (const part of ['method', 'path', 'selectors', 'caller', 'key'] as const) {
          const mixed = { ...a, [part]: b[part] };
          expect(idOf(mixed) === idOf(a)).toBe(written(sorted(mixed)) === written(sorted(a)));
        }
      }),
      runs(1_000),
    );
  });

  it('has a scope of printable ASCII', () => {
    fc.assert(
      fc.property(names, ({ method, path: where, selectors: by, caller: who }) => {
        expect(httpScope(method, where, { ...by, ...who })).toMatch(/^[ -~]+$/);
      }),
      runs(500),
    );
  });

  it.each<[string, HttpCaller, HttpCaller, HttpCaller]>([
    [
      'the number 1, the text and the bigint',
      { user: { id: 1 } },
      { user: { id: '1' } },
      { user: { id: 1n } },
    ],
    ['id, sub and userId', { user: { id: '7' } }, { user: { sub: '7' } }, { user: { userId: '7' } }],
    ['a text and a list of it', { scope: 'a' }, { scope: ['a'] }, { scope: ['a', 'a'] }],
    ['a list and its text', { scope: ['a', 'b'] }, { scope: 'a,b' }, { scope: ['a,b'] }],
    ['a version that spells a user', { version: '1 user.id:s:7' }, { version: '1', user: { id: '7' } }, {}],
    ['a host that spells a version', { host: 'a version:s:1' }, { host: 'a', version: '1' }, {}],
    [
      'a user who spells credentials',
      { user: { id: '7 credentials:a' } },
      { user: { id: '7' } },
      { credentials: { token: 'a' } },
    ],
    [
      'a constraint that spells another',
      { constraints: { a: '1 constraint.b:s:2' } },
      { constraints: { a: '1', b: '2' } },
      { constraints: { 'a:s:1 constraint.b': '2' } },
    ],
    ['a user and a scope', { user: { id: '7' } }, { scope: '7' }, {}],
  ])('has another scope where the caller is another: %s', (_, ...callers) => {
    expect(new Set(callers.map((each) => httpScope('POST', '/a', each))).size).toBe(callers.length);
  });

  it('cannot move a piece of its text from one part to the next', () => {
    fc.assert(
      fc.property(text, text, text, (a, b, c) => {
        expect(recordId(a + b, c).hash === recordId(a, b + c).hash).toBe(b === '');
        expect(recordId(a, c).hash === recordId(b, c).hash).toBe(a === b);
      }),
      runs(1_000),
    );
  });

  it('has bytes of its own, whatever lone surrogates it holds', () => {
    fc.assert(
      fc.property(text, text, (a, b) => {
        expect(bytesOf(a).equals(bytesOf(b))).toBe(a === b);
        if (a.isWellFormed()) expect(bytesOf(a).toString()).toBe(a);
      }),
      runs(1_000),
    );
  });
});

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const members = Object.entries(value).filter(([, each]) => each !== undefined);
  return {
    of: members
      .map(([name, each]) => [name, sorted(each)])
      .sort(([a], [b]) => (String(a) < String(b) ? -1 : 1)),
  };
}
