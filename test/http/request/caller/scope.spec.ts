import type { ExecutionContext } from '@nestjs/common';
import { ApplicationConfig, HttpAdapterHost } from '@nestjs/core';
import fc from 'fast-check';
import { isIdempotencyError } from '../../../../lib/core/errors';
import { bytesOf, plainDigest } from '../../../../lib/core/digest';
import { recordId } from '../../../../lib/core/record';
import { fingerprintOf } from '../../../../lib/http/request/fingerprint/fingerprint';
import { keyOf } from '../../../../lib/http/request/key';
import { httpScope, type HttpCaller } from '../../../../lib/http/request/caller/http-scope';
import { target } from '../../../../lib/http/request/target';
import { RouteSelectors } from '../../../../lib/http/request/caller/route-selectors';
import { ScopeResolver } from '../../../../lib/http/request/caller/scope';
import type { CallerName, IdempotencyOptions } from '../../../../lib/options/idempotency.options';
import { resolveRouteOptions } from '../../../../lib/options/resolve';
import { changed, json, reordered, runs, sameValue, text } from '../../../support/arbitraries';

const contextOf = (request: object): ExecutionContext =>
  ({
    switchToHttp: () => ({ getRequest: () => request }),
    getClass: () => Object,
    getHandler: () => contextOf,
  }) as unknown as ExecutionContext;

const route = (options: IdempotencyOptions = {}) => resolveRouteOptions('a route under test', options);

/** The value, or what it failed with. */
const settled = <T>(work: Promise<T>): Promise<{ value: T } | { code: string } | { message: string }> =>
  work.then(
    (value) => ({ value }),
    (error: unknown) =>
      isIdempotencyError(error)
        ? { code: error.code }
        : { message: error instanceof Error ? error.message : String(error) },
  );

const fingerprint = (body: unknown, options?: IdempotencyOptions): Promise<string> =>
  fingerprintOf(
    contextOf({ method: 'POST', url: '/a?b', headers: { 'content-length': '1' }, body }),
    route(options),
  );

const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

describe('a hostile key', () => {
  it('from the `key` option is taken as it is, or refused as `key_invalid`', async () => {
    const answers = fc.oneof(
      text,
      text.map((each) => each.repeat(100)),
      fc.anything(),
    );
    await fc.assert(
      fc.asyncProperty(answers, async (answer) => {
        const key = () => answer as string;
        const valid =
          typeof answer === 'string' &&
          answer.length > 0 &&
          answer.length <= 255 &&
          answer.isWellFormed() &&
          !CONTROL.test(answer);
        const wanted = valid || answer === undefined ? { value: answer } : { code: 'key_invalid' };
        expect(await settled(keyOf(contextOf({}), route({ key })))).toEqual(wanted);
      }),
      runs(500),
    );
  });

  it('in a header is taken as it is, read as a structured-field string, or refused as `key_invalid`', async () => {
    const byte = fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code));
    const values = fc.oneof(
      fc.string({ unit: byte }),
      fc.string({ unit: fc.constantFrom('"', '\\', ',', ';', ' ', 'a', '=', '?', ':', '(', '\xe9') }),
      fc.string({ unit: 'grapheme-ascii' }).map((inner) => `"${inner}"`),
      fc.constantFrom('a', 'b', '"a"', '"b"', '""', 'x'.repeat(255), 'x'.repeat(256)),
    );
    const headers = (distinct: string[]) =>
      contextOf({ headers: {}, rawHeaders: distinct.flatMap((value) => ['Idempotency-Key', value]) });
    await fc.assert(
      fc.asyncProperty(fc.array(values, { minLength: 1, maxLength: 3 }), async (sent) => {
        const answer = await settled(keyOf(headers(sent), route()));
        if (!('value' in answer)) {
          expect(answer).toEqual({ code: 'key_invalid' });
          return;
        }
        // What is accepted has one meaning: sent alone, bare or quoted, each of the values names the same key.
        const key = answer.value!;
        expect(key.length).toBeLessThanOrEqual(255);
        expect(key).toMatch(/^[\x20-\x7e]+$/);
        const quoted = `"${key.replace(/["\\]/g, '\\$&')}"`;
        for (const value of [...sent, quoted]) {
          expect(await settled(keyOf(headers([value]), route()))).toEqual({ value: key });
        }
      }),
      runs(500),
    );
  });
});

describe('a hostile name', () => {
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

  it.each([
    ['http://api.example.com/a/b?c=/d', '/a/b', 'c=/d'],
    ['HTTPS://user:secret@[::1]:3000/a', '/a', ''],
    ['http://api.example.com', '/', ''],
    ['http://api.example.com?c', '/', 'c'],
    ['//api.example.com/a', '//api.example.com/a', ''],
    ['/http://a/b', '/http://a/b', ''],
    ['*', '*', ''],
    ['/a?http://b/c', '/a', 'http://b/c'],
  ])('is the same in absolute form: %s', (url, wantedPath, query) => {
    expect(target({ method: 'POST', url })).toEqual({ path: wantedPath, query });
  });
});

describe('a path', () => {
  it.each([
    ['/a?b', '/mounted', '/mounted/a?b'],
    ['http://user:secret@api.example.com/a?b', '/mounted', 'http://user:secret@api.example.com/mounted/a?b'],
    ['/a?b', '', '/sent'],
  ])(
    'is whole where the application is mounted, and the one that was routed: %s',
    (url, baseUrl, originalUrl) => {
      const request = { method: 'POST', url, baseUrl, originalUrl };
      expect(target(request)).toEqual({ path: `${baseUrl}/a`, query: 'b' });
    },
  );
});

describe('a hostile principal', () => {
  const scopes = new ScopeResolver(
    new RouteSelectors(new HttpAdapterHost(), new ApplicationConfig()),
    plainDigest,
  );
  const scopeOf = (request: object, options?: IdempotencyOptions): Promise<unknown> =>
    settled(
      scopes.resolve(
        contextOf({ method: 'POST', url: '/a', headers: {}, rawHeaders: [], ...request }),
        route(options),
      ),
    );

  /** What tells callers apart: a text that is not empty, or a number that is one. */
  const principals = fc.oneof(
    fc.anything(),
    text,
    fc.constantFrom<unknown>(
      NaN,
      Infinity,
      -Infinity,
      -0,
      0,
      10n ** 400n,
      Symbol('id'),
      () => 1,
      [],
      [1],
      {},
    ),
    fc.constant('x'.repeat(1_000_000)),
  );
  const usable = (id: unknown): id is string | number | bigint =>
    (typeof id === 'string' && id !== '') || typeof id === 'bigint' || Number.isFinite(id);

  it('as `request.user.id` is a name of its own, or refused', async () => {
    await fc.assert(
      fc.asyncProperty(principals, async (id) => {
        fc.pre(id !== undefined && id !== null);
        const scope = await scopeOf({ user: { id } });
        if (usable(id)) expect(scope).toEqual({ value: httpScope('POST', '/a', { user: { id } }) });
        else
          expect(scope).toEqual({
            message: expect.stringMatching(/request\.user.*`scope` option/) as string,
          });
      }),
      runs(300),
    );
  });

  it('as the answer of `scope` is a name of its own, or refused', async () => {
    await fc.assert(
      fc.asyncProperty(principals, async (answer) => {
        fc.pre(answer !== undefined);
        const scope = await scopeOf({}, { scope: () => answer as string });
        const list = Array.isArray(answer) && answer.length > 0 && Array.from<unknown>(answer).every(usable);
        if (usable(answer) || list)
          expect(scope).toEqual({ value: httpScope('POST', '/a', { scope: answer as string }) });
        else
          expect(scope).toEqual({ message: expect.stringMatching(/`scope` option has to give/) as string });
      }),
      runs(300),
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

describe('a hostile body', () => {
  it('has the fingerprint of every equal value, in whatever order its properties come', async () => {
    await fc.assert(
      fc.asyncProperty(json, async (body) => {
        const copy = JSON.parse(JSON.stringify(reordered(body))) as unknown;
        expect(await fingerprint(copy)).toBe(await fingerprint(body));
      }),
      runs(500),
    );
  });

  it('has another fingerprint than every value that differs anywhere', async () => {
    await fc.assert(
      fc.asyncProperty(json, fc.nat(), json, async (body, pick, to) => {
        const other = changed(body, pick, to);
        expect((await fingerprint(other)) === (await fingerprint(body))).toBe(sameValue(other, body));
      }),
      runs(1_000),
    );
  });

  it.each<[string, string, string]>([
    ['duplicates of a name, of which the parser takes the last', '{"a":1,"a":2}', '{"a":2}'],
    ['1 and 1.0', '{"a":1}', '{"a":1.0}'],
    ['1e3 and 1000', '[1e3]', '[1000]'],
    ['0 and -0', '[0]', '[-0]'],
    ['whole numbers beyond 2^53, which the parser rounds', '[9007199254740993]', '[9007199254740992]'],
    ['numbers beyond every double, which the parser makes Infinity', '[1e400]', '[1e999]'],
    ['an escape and its character', '["\\u0041"]', '["A"]'],
  ])('has the fingerprint of the value that the parser makes of it: %s', async (_, a, b) => {
    expect(await fingerprint(JSON.parse(a))).toBe(await fingerprint(JSON.parse(b)));
  });

  it.each<[unknown, unknown]>([
    ['1', 1],
    [null, undefined],
    [{ a: null }, {}],
    [[], {}],
    [[], null],
    ['', undefined],
    [[[]], []],
    [[1, 2], ['1,2']],
    ['\ud800', '\udfff'],
    ['\ud800', '\ufffd'],
    ['\ud800', '"\\ud800"'],
    [['\ud800'], ['\ufffd']],
    ['\u00e9', 'e\u0301'],
    [['\u00e9'], ['e\u0301']],
    [{ '\u00e9': 1 }, { 'e\u0301': 1 }],
    [JSON.parse('{"__proto__":{"admin":true}}'), {}],
    [JSON.parse('{"__proto__":1}'), JSON.parse('{"__proto__":2}')],
    [JSON.parse('{"constructor":{"prototype":1}}'), {}],
    [JSON.parse('[1e400]'), [null]],
    [JSON.parse('[1e400]'), JSON.parse('[-1e400]')],
    [JSON.parse('[1e400]'), ['Infinity']],
    [JSON.parse('[1e400]'), [Number.MAX_VALUE]],
    ['abc', Buffer.from('abc')],
    [Buffer.from([0xff]), Buffer.from('\ufffd')],
  ])('tells %j from %j', async (a, b) => {
    expect(await fingerprint(a)).not.toBe(await fingerprint(b));
  });

  it('is refused where it is nested so deeply that comparing it would take long, and in no time', async () => {
    const nested = (levels: number): unknown => {
      const inside = Array.from({ length: 300_000 }, () => '{}').join();
      return JSON.parse('['.repeat(levels) + inside + ']'.repeat(levels));
    };
    expect(await settled(fingerprint(nested(501)))).toEqual({ code: 'body_too_deep' });
    expect(await settled(fingerprint(nested(499)))).toMatchObject({ value: expect.any(String) as string });
  });

  it('is told apart by the `fingerprint` option alone where it is set, and only by a text', async () => {
    const of = (answer: unknown) => fingerprint({}, { fingerprint: () => answer as string });
    await fc.assert(
      fc.asyncProperty(text, text, async (a, b) => {
        expect((await of(a)) === (await of(b))).toBe(a === b);
      }),
      runs(300),
    );
    await fc.assert(
      fc.asyncProperty(fc.anything(), async (answer) => {
        fc.pre(typeof answer !== 'string');
        expect(await settled(of(answer))).toEqual({
          message: expect.stringMatching(/`fingerprint` option has to give a string/) as string,
        });
      }),
      runs(100),
    );
  });
});
