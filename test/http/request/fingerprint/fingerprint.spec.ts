import crypto from 'node:crypto';
import { PassThrough, Readable } from 'node:stream';
import { runInNewContext } from 'node:vm';
import type { ExecutionContext } from '@nestjs/common';
import fc from 'fast-check';
import { requestFingerprint } from '../../../../lib/http/request/fingerprint/fingerprint';
import { isIdempotencyError } from '../../../../lib/core/errors';
import { built, changedModel, meaning, model } from '../../../support/bodies';
import { runs } from '../../../support/arbitraries';

const requestOf = (request: object): string =>
  requestFingerprint({
    getArgByIndex: () => ({ method: 'POST', url: '/a', ...request }),
  } as unknown as ExecutionContext);

/** Of a request whose headers say that it has a body. */
const fingerprint = (body: unknown): string => requestOf({ headers: { 'content-length': '9' }, body });

const failure = (body: unknown): string => {
  try {
    return fingerprint(body);
  } catch (error) {
    return isIdempotencyError(error) ? error.code : (error as Error).message;
  }
};

describe('the fingerprint of a body', () => {
  it('is one for equal data: in any order of properties, copied, or with parts that are shared', () => {
    fc.assert(
      fc.property(model, (each) => {
        const plain = fingerprint(built(each));
        expect(fingerprint(built(each))).toBe(plain);
        expect(fingerprint(built(each, { reversed: true }))).toBe(plain);
        expect(fingerprint(built(each, { shared: new Map() }))).toBe(plain);
        const twice = built(each);
        expect(fingerprint([twice, twice])).toBe(fingerprint([built(each), built(each)]));
      }),
      runs(500),
    );
  });

  it('is another for data that differs anywhere, of whatever kind', () => {
    fc.assert(
      fc.property(model, fc.nat(), model, (each, pick, to) => {
        const other = changedModel(each, pick, to);
        expect(fingerprint(built(other)) === fingerprint(built(each))).toBe(meaning(other) === meaning(each));
        expect(fingerprint(built(to)) === fingerprint(built(each))).toBe(meaning(to) === meaning(each));
      }),
      runs(1_000),
    );
  });

  const circular = (name: string): unknown => {
    const body: Record<string, unknown> = { name };
    body.parts = [{ body }, { body }];
    return body;
  };
  const deepInside = (value: unknown): unknown => {
    let body = value;
    for (let i = 0; i < 100; i += 1) body = { body };
    return body;
  };
  const holes = (...at: number[]): unknown[] => {
    const list: unknown[] = [];
    for (const i of at) list[i] = 1;
    return list;
  };

  it.each<[string, unknown, unknown]>([
    ['URLSearchParams', new URLSearchParams('a=1'), new URLSearchParams('a=2')],
    ['the order of equal names', new URLSearchParams('a=1&a=2'), new URLSearchParams('a=2&a=1')],
    ['ArrayBuffers', new Uint8Array([1]).buffer, new Uint8Array([2]).buffer],
    ['SharedArrayBuffers', new SharedArrayBuffer(1), new SharedArrayBuffer(2)],
    ['regular expressions', /a/, /b/],
    ['Sets', new Set([1]), new Set([2])],
    ['a Set and a list', new Set([1]), [1]],
    ['Maps', new Map([[1, 2]]), new Map([[1, 3]])],
    ['a Map and an object', new Map([['a', 1]]), { a: 1 }],
    ['NaN and null', [NaN], [null]],
    ['bigints beyond 2^53', [9007199254740993n], [9007199254740992n]],
    ['a bigint and a number', [1n], [1]],
    ['dates', new Date(1), new Date(2)],
    ['a date and its text', new Date(1), new Date(1).toJSON()],
    ['values that hold themselves', circular('a'), circular('b')],
    ['values that hold themselves deep inside', deepInside(circular('a')), deepInside(circular('b'))],
    ['lists that hold nothing and undefined', holes(1), [undefined, 1]],
    ['lists with holes in other places', holes(1, 3), holes(2, 3)],
    ['texts that look like a digest', ['x'.repeat(300)], ['y'.repeat(300)]],
    ['long texts of lone surrogates', '\ud800'.repeat(300), '\udfff'.repeat(300)],
    ['boxed texts', Object('a'), Object('b')],
    ['Map keys', new Map([[{ a: 1 }, 1]]), new Map([[{ a: 2 }, 1]])],
    ['who is named in a Map', new Map([['a', 'b']]), new Map([['b', 'a']])],
  ])('differs for different %s', (_, a, b) => {
    expect(fingerprint(a)).not.toBe(fingerprint(b));
    expect(fingerprint({ within: [a] })).not.toBe(fingerprint({ within: [b] }));
  });

  it.each<[string, unknown, unknown]>([
    ['a value that holds itself', circular('a'), circular('a')],
    ['a value that holds itself deep inside', deepInside(circular('a')), deepInside(circular('a'))],
    ['an object without a prototype', { a: 1 }, Object.assign(Object.create(null) as object, { a: 1 })],
    ['an object with an empty prototype', { a: 1 }, Object.assign(Object.create(Object.create(null) as object) as object, { a: 1 })], // prettier-ignore
    ['an object of another realm', { a: [1] }, runInNewContext('({ a: [1] })')],
    ['kinds of another realm', [new Date(1), new Map()], runInNewContext('[new Date(1), new Map()]')],
    ['a Map in another order', new Map([['a', 1], ['b', 2]]), new Map([['b', 2], ['a', 1]])], // prettier-ignore
    [
      'a form whose names come in another order',
      new URLSearchParams('a=1&b=2&a=3'),
      new URLSearchParams('b=2&a=1&a=3'),
    ],
    ['a Buffer that is a piece of a larger one', Buffer.from('xaby').subarray(1, 3), Buffer.from('ab')],
    ['a boxed value', [Object(1), Object('a'), Object(true), Object(1n)], [1, 'a', true, 1n]],
    ['a proxy of data', { a: [1] }, new Proxy({ a: [1] }, {})],
    ['what says how it is spelled', new URL('http://a/'), { toJSON: () => 'http://a/' }],
    ['a symbol that a parser left as a mark', { a: 1 }, { a: 1, [Symbol('parsed')]: true }],
  ])('is one for %s', (_, a, b) => {
    expect(fingerprint(a)).toBe(fingerprint(b));
  });

  class Private {
    readonly #value = 1;
    readonly name = 'a';
    value(): number {
      return this.#value;
    }
  }

  it.each<[string, unknown]>([
    ['a Blob', new Blob(['a'])],
    ['a File in a form', (() => { const form = new FormData(); form.append('a', new Blob(['a'])); return form; })()], // prettier-ignore
    ['an instance of a class, of which private fields cannot be seen', new Private()],
    ['an instance of a class that extends a list', new (class Tags extends Array {})()],
    ['an error', new Error('a')],
    ['a promise', Promise.resolve()],
    ['a WeakMap', new WeakMap()],
    ['a function', { a: () => 1 }],
    ['a symbol', [Symbol('a')]],
    ['a boxed symbol', [Object(Symbol('a'))]],
    ['what answers for itself with itself', { toJSON() { return this; } }], // prettier-ignore
    ['a getter that throws', { get a() { throw new Error('no'); } }], // prettier-ignore
    ['a proxy that throws', new Proxy({}, { ownKeys: () => { throw new Error('no'); } })], // prettier-ignore
    ['a `toJSON` that throws', { toJSON: () => { throw new Error('no'); } }], // prettier-ignore
  ])('is refused, with an error that names the option, where it holds %s', (_, body) => {
    for (const each of [body, [body], { within: body }]) {
      expect(failure(each)).toMatch(/^The parsed body holds .+ Set the `fingerprint` option\.$/);
    }
  });

  it('counts a stream as not part of it, as its bytes have not been read', () => {
    const none = fingerprint(new PassThrough());
    expect(fingerprint(Readable.from(['a']))).toBe(none);
    expect(fingerprint(new ReadableStream())).toBe(none);
    expect(fingerprint({ a: 1, file: Readable.from(['a']) })).not.toBe(
      fingerprint({ a: 2, file: Readable.from(['a']) }),
    );
  });

  it('is refused as too deep for 501 levels of any kind, and for getters that never end', () => {
    const wrapped = (levels: number, wrap: (inner: unknown) => unknown): unknown => {
      let value: unknown = 1;
      for (let i = 0; i < levels; i += 1) value = wrap(value);
      return value;
    };
    const endless = (): unknown => ({ get a() { return endless(); }, get b() { return endless(); } }); // prettier-ignore
    for (const wrap of [(inner: unknown) => [inner], (a: unknown) => ({ a }), (a: unknown) => new Set([a])]) {
      expect(failure(wrapped(500, wrap))).toMatch(/^[0-9a-f]{64}$/);
      expect(failure(wrapped(501, wrap))).toBe('body_too_deep');
    }
    expect(failure(endless())).toBe('body_too_deep');
  });
});

describe('the cost of a fingerprint', () => {
  let hashed = 0;
  let updates = 0;
  const count = (data: unknown): void => {
    hashed += typeof data === 'string' ? data.length : (data as Uint8Array).byteLength;
    updates += 1;
  };

  beforeEach(() => {
    hashed = updates = 0;
    const { hash, Hash } = crypto;
    const { update } = Hash.prototype;
    jest.spyOn(crypto, 'hash').mockImplementation(((
      algorithm: string,
      data: string,
      encoding: 'hex',
    ): string => {
      count(data);
      return hash(algorithm, data, encoding);
    }) as typeof hash);
    jest.spyOn(Hash.prototype, 'update').mockImplementation(function (this: crypto.Hash, data: unknown) {
      count(data);
      return update.call(this, data as string, 'utf8');
    });
  });
  afterEach(() => jest.restoreAllMocks());

  const referring = (levels: number, onRead: () => void): unknown => {
    let value: unknown = ['lol', 'lol'];
    for (let i = 0; i < levels; i += 1) {
      const inner = value;
      const read = { get: (): unknown => (onRead(), inner), enumerable: true };
      value = Object.defineProperties({}, { a: read, b: read });
    }
    return value;
  };

  it('is linear in the references of a body whose parts are shared, not in what they would spell out', () => {
    let reads = 0;
    const body = referring(400, () => (reads += 1)); // 2^400 texts
    expect(fingerprint(body)).toBe(fingerprint(body));
    expect(reads).toBeLessThanOrEqual(2 * 2 * 400 + 20);
    expect(hashed).toBeLessThanOrEqual(2 * 400 * 300);
  });

  it('is linear in the references of a body that holds itself', () => {
    let reads = 0;
    const body = { inner: referring(200, () => (reads += 1)), self: undefined as unknown };
    body.self = [body, body, referring(100, () => (reads += 1))];
    expect(fingerprint(body)).toMatch(/^[0-9a-f]{64}$/);
    expect(reads).toBeLessThanOrEqual(2 * 2 * 300 + 40);
  });

  const megabyte = 1_048_576;
  const parsed = (text: string): unknown => JSON.parse(text) as unknown;
  const repeated = (times: number, value: unknown): unknown[] => Array.from({ length: times }, () => value);
  it.each<[string, number, () => unknown]>([
    ['numbers', megabyte, () => parsed(`[${'1234567,'.repeat(131_071)}0]`)],
    ['1e400', megabyte, () => parsed(`[${'1e400,'.repeat(174_762)}0]`)],
    ['empty objects', megabyte, () => parsed(`[${'{},'.repeat(349_525)}0]`)],
    ['records', megabyte, () => parsed(`[${'{"a":"xxxxxxxx","b":[1,2]},'.repeat(38_836)}0]`)],
    ['one text', megabyte, () => parsed(`["${'x'.repeat(megabyte)}"]`)],
    ['escapes', megabyte, () => parsed(`["${'\\ud800'.repeat(174_762)}"]`)],
    ['a file of 10 MB', 10_000_000, () => ({ file: Buffer.alloc(10_000_000) })],
    ['one file, referred to 1,000 times', megabyte, () => repeated(1_000, Buffer.alloc(megabyte))],
    ['one text, referred to 30,000 times', megabyte, () => repeated(30_000, 'x'.repeat(megabyte))],
    ['a number of 300,000 digits', 300_000, () => [(1n << 1_000_000n) - 1n]],
  ])('is a small multiple of the bytes sent: %s', (_, bytes, body) => {
    const value = body();
    fingerprint(value);
    expect(hashed).toBeGreaterThan(100);
    expect(hashed).toBeLessThanOrEqual(4 * bytes);
    expect(updates).toBeLessThanOrEqual(10 + bytes / 64);
  });

  it.each([
    ['without a name', '&'],
    ['of one name', 'a=1&'],
    ['of as many names', 'a=1&b&c=&'],
  ])('is a small multiple of the bytes sent as a form, whose fields are many: %s', (_, field) => {
    const rawBody = Buffer.alloc(megabyte, field);
    const headers = { 'content-type': 'application/x-www-form-urlencoded', 'content-length': '9' };
    requestOf({ headers, body: {}, rawBody });
    expect(hashed).toBeGreaterThan(100);
    expect(hashed).toBeLessThanOrEqual(6 * megabyte);
  });
});
