import { text } from 'node:stream/consumers';
import { isInvalidOptionsError } from '../../lib';
import type { RequestDescription } from '../../lib/core/explanation';
import { madeUpRequest } from '../../lib/http/made-up-request';

const REQUEST = { method: 'post', url: '/orders' };

describe('a request that is made up', () => {
  it('has the headers that a client would send', () => {
    const [request] = madeUpRequest({ ...REQUEST, headers: { 'X-A': 'a', 'X-B': undefined } });
    expect(request).toMatchObject({ method: 'POST', url: '/orders', headers: { 'x-a': 'a' } });
    expect(Object.keys(request.headers)).toEqual(['host', 'x-a']);
    expect(request.rawHeaders).toEqual(['host', 'localhost', 'X-A', 'a']);
  });

  it.each<[given: unknown, sent: string]>([
    [undefined, ''],
    ['{"as":  "it is"}', '{"as":  "it is"}'],
    [Buffer.from('{"as":  "it is"}'), '{"as":  "it is"}'],
    [{ a: 1 }, '{"a":1}'],
    [null, 'null'],
  ])('has the body %j as a client would send it', async (body, sent) => {
    const [request] = madeUpRequest({ ...REQUEST, body });
    expect(await text(request)).toBe(sent);
    expect(request.headers['content-length']).toBe(sent === '' ? undefined : String(sent.length));
  });

  const circular: Record<string, unknown> = {};
  circular.itself = circular;
  it.each<[what: string, described: unknown, problem: string]>([
    ['nothing', null, '"request" is null'],
    ['no method', { url: '/' }, '"method" is undefined'],
    ['a whole URL', { method: 'POST', url: 'http://localhost/' }, '"url" is'],
    ['no headers', { ...REQUEST, headers: null }, '"headers" is null'],
    ['a list in a header', { ...REQUEST, headers: { a: ['b'] } }, '"headers.a" is'],
    ['a body that is circular', { ...REQUEST, body: circular }, '"body" is'],
    ['a body with a bigint', { ...REQUEST, body: { a: 1n } }, 'a value that has a JSON form'],
    ['a body that is a function', { ...REQUEST, body: () => 1 }, '"body" is'],
  ])('is refused with %s', (_, described, problem) => {
    let error: unknown;
    try {
      madeUpRequest(described as RequestDescription);
    } catch (caught) {
      error = caught;
    }
    expect(isInvalidOptionsError(error)).toBe(true);
    expect(String(error)).toContain(problem);
  });
});
