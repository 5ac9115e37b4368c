import type { ExecutionContext } from '@nestjs/common';
import fc from 'fast-check';
import { requestFingerprint } from '../../../../lib/http/request/fingerprint/fingerprint';
import { json as jsonValue, runs } from '../../../support/arbitraries';

const requestOf = (request: object): string =>
  requestFingerprint({
    getArgByIndex: () => ({ method: 'POST', url: '/a', ...request }),
  } as unknown as ExecutionContext);

describe('what was sent as a body', () => {
  const none = requestOf({ headers: {} });
  const json = { 'content-type': 'application/json', 'content-length': '9' };

  it.each<[string, object]>([
    ['no headers, and what a parser makes of nothing', { headers: {}, body: {} }],
    ['a length of 0, and what a parser makes of it', { headers: { 'content-length': '0' }, body: {} }],
    [
      'a length of 0, and what a guard has written',
      { headers: { 'content-length': '0' }, body: { user: 1 } },
    ],
    ['a length of 0, and an empty text', { headers: { 'content-length': '0' }, body: '' }],
    ['no headers, and no bytes', { headers: {}, body: Buffer.alloc(0) }],
    ['no chunk', { headers: { 'transfer-encoding': 'chunked' }, body: {}, rawBody: Buffer.alloc(0) }],
    [
      'HTTP/2 without data',
      { headers: {}, httpVersionMajor: 2, stream: { endAfterHeaders: true }, body: {} },
    ],
  ])('is nothing with %s', (_, request) => {
    expect(requestOf(request)).toBe(none);
  });

  it.each<[string, object]>([
    ['an object without properties', { headers: { 'content-length': '2' }, body: {} }],
    ['one in chunks', { headers: { 'transfer-encoding': 'chunked' }, body: {} }],
    ['one over HTTP/2', { headers: {}, httpVersionMajor: 2, stream: { endAfterHeaders: false }, body: {} }],
    ['null', { headers: { 'content-length': '4' }, body: null }],
    ['null on Fastify', { raw: { headers: { 'content-length': '4' } }, body: null }],
    ['what an adapter hands on without headers', { headers: {}, body: { a: 1 } }],
    ['a form that it hands on', { headers: {}, body: new URLSearchParams('a=1') }],
    ['bytes that it hands on', { headers: {}, body: undefined, rawBody: Buffer.from('a') }],
  ])('is something with %s', (_, request) => {
    expect(requestOf(request)).not.toBe(none);
  });

  it('is what was sent, not what a guard has written into it, where the application keeps the bytes', () => {
    const sent = (raw: string, body: unknown, headers: object = json): string =>
      requestOf({ headers, body, rawBody: Buffer.from(raw) });
    const first = sent('{"a":1,"b":2}', { a: 1, b: 2, user: { iat: 1 } });
    expect(sent('{"a":1,"b":2}', { a: 1, b: 2, user: { iat: 2 } })).toBe(first);
    expect(sent('\ufeff{ "b": 2.0, "a": 1 }', { a: 1, b: 2 })).toBe(first);
    expect(sent('{"a":1,"b":3}', { a: 1, b: 2 })).not.toBe(first);
    expect(requestOf({ headers: json, body: { b: 2, a: 1 } })).toBe(first);

    const form = { ...json, 'content-type': 'application/x-www-form-urlencoded' };
    expect(sent('a=1&b=2', { a: 1, user: 1 }, form)).toBe(sent('b=2&a=1', { a: 1, user: 2 }, form));
    expect(sent('a=1&b=2', {}, form)).not.toBe(sent('a=1&b=3', {}, form));
    expect(sent('a=%FF', {}, form)).not.toBe(sent('a=%FE', {}, form));

    const xml = { ...json, 'content-type': 'application/xml' };
    expect(sent('<a/>', { a: 1 }, xml)).toBe(sent('<a/>', { a: 2 }, xml));
    expect(sent('<a/>', undefined, xml)).not.toBe(sent('<b/>', undefined, xml));
  });

  it.each([
    ['a[]=1&a=2', 'a=2&a[]=1'],
    ['a=1&a[b]=2', 'a[b]=2&a=1'],
    ['i[][x]=1&i[][y]=2&i[][x]=3', 'i[][x]=1&i[][x]=3&i[][y]=2'],
    ['a%5B%5D=1&%61=2', '%61=2&a%5B%5D=1'],
    ['[a]=1&a=2', 'a=2&[a]=1'],
    ['a.b=1&a=2', 'a=2&a.b=1'],
    ['a+b=1&a%20b=2', 'a%20b=2&a+b=1'],
    ['a', 'a='],
  ])('differs for the forms %s and %s, of which parsers make different data', (one, other) => {
    const headers = { ...json, 'content-type': 'application/x-www-form-urlencoded' };
    const sent = (form: string): string => requestOf({ headers, body: {}, rawBody: Buffer.from(form) });
    expect(sent(one)).not.toBe(sent(other));
    expect(sent(`z=0&${one}`)).toBe(sent(`${one}&z=0`));
  });

  it.each<[string, string, string]>([
    ['whole numbers beyond 2^53', '[9007199254740993]', '[9007199254740992]'],
    ['long decimals', '{"a":0.12345678901234567891}', '{"a":0.12345678901234567892}'],
    ['numbers beyond every double', '[1e400]', '[1e999]'],
    ['numbers below every double', '[1e-400]', '[0]'],
    ['numbers below every normal double', '[5e-324]', '[4e-324]'],
    [
      'numbers behind texts of quotation marks',
      '["\\\\\\"", 9007199254740993]',
      '["\\\\\\"", 9007199254740992]',
    ],
  ])('differs for %s that a parser rounds to one, where the application keeps the bytes', (_, a, b) => {
    const sent = (raw: string): string =>
      requestOf({ headers: json, body: JSON.parse(raw) as unknown, rawBody: Buffer.from(raw) });
    expect(JSON.parse(a)).toEqual(JSON.parse(b));
    expect(sent(a)).not.toBe(sent(b));
    expect(sent(` ${a}`)).toBe(sent(a));
  });

  it('is one for every spelling of the numbers that a double holds, with the bytes or without', () => {
    fc.assert(
      fc.property(jsonValue, (value) => {
        const body = JSON.parse(JSON.stringify([value])) as unknown;
        const parsed = requestOf({ headers: json, body });
        expect(requestOf({ headers: json, body, rawBody: JSON.stringify(body, null, 1) })).toBe(parsed);
      }),
      runs(500),
    );
    const sent = (rawBody: string): string => requestOf({ headers: json, body: {}, rawBody });
    expect(sent('["1234567890123456789", 1.0, -0, 1e2, true, 0.0]')).toBe(
      sent('["1234567890123456789",1,0,100,true,0]'),
    );
  });

  it('is what the parser made of it for multipart, whose bytes differ with each request', () => {
    const headers = { 'content-type': 'multipart/form-data; boundary=x', 'content-length': '9' };
    expect(requestOf({ headers, body: { a: 1 }, rawBody: Buffer.from('x') })).toBe(
      requestOf({ headers, body: { a: 1 }, rawBody: Buffer.from('y') }),
    );
  });
});
