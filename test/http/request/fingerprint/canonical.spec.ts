import fc from 'fast-check';
import { fingerprintOf } from '../../../../lib/http/request/fingerprint/fingerprint';
import type { IdempotencyOptions } from '../../../../lib/options/idempotency.options';
import { changed, json, reordered, runs, sameValue, text } from '../../../support/arbitraries';
import { contextOf, route, settled } from '../../../support/request-context';

const fingerprint = (body: unknown, options?: IdempotencyOptions): Promise<string> =>
  fingerprintOf(
    contextOf({ method: 'POST', url: '/a?b', headers: { 'content-length': '1' }, body }),
    route(options),
  );

describe('a canonical body', () => {
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
          message: expect.stringMatching(/`fingerprint` option must return a string/) as string,
        });
      }),
      runs(100),
    );
  });
});
