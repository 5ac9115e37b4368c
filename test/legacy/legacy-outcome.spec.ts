import { Readable } from 'node:stream';
import type { Outcome } from '../../lib/core/record';
import { legacyResponse, legacyValue } from '../../lib/legacy/legacy-outcome';

const JSON_LINE = ['Content-Type', 'application/json; charset=utf-8'];
const all = (): boolean => true;
const response = (answer: unknown): unknown => {
  const outcome = legacyResponse(answer, all);
  if (outcome.kind !== 'response') return outcome;
  const { status, headers, body } = outcome;
  return { status, headers, body: body.toString() };
};

describe('a response of another system', () => {
  it.each<[string, unknown, unknown]>([
    ['an object', { id: 7, name: 'ä' }, { headers: [JSON_LINE], body: '{"id":7,"name":"ä"}' }],
    ['a list', [1, 2], { headers: [JSON_LINE], body: '[1,2]' }],
    ['a number', 7, { headers: [JSON_LINE], body: '7' }],
    ['false', false, { headers: [JSON_LINE], body: 'false' }],
    ['text', '{"id":7}', { headers: [], body: '{"id":7}' }],
    ['bytes', Buffer.from('raw'), { headers: [], body: 'raw' }],
    ['null', null, { headers: [], body: '' }],
    ['nothing', undefined, { headers: [], body: '' }],
  ])('has a body of %s as Nest sends it', (_, body, expected) => {
    expect(response({ status: 201, body })).toEqual({ status: 201, ...(expected as object) });
  });

  it('has its headers, but for those of one connection or request, and its length', () => {
    const headers = {
      Location: '/orders/7',
      'content-type': 'application/vnd.api+json',
      'X-Count': 3,
      Link: ['<a>', '<b>'],
      'X-Absent': undefined,
      'Content-Length': '999',
      'Transfer-Encoding': 'chunked',
      Connection: 'close',
      Date: 'Thu, 01 Jan 1970 00:00:00 GMT',
      'Set-Cookie': 'session=1',
      'X-Request-Id': 'a',
      'Idempotent-Replayed': 'true',
    };
    expect(response({ status: 200, headers, body: {} })).toEqual({
      status: 200,
      headers: [
        ['Location', '/orders/7'],
        ['content-type', 'application/vnd.api+json'],
        ['X-Count', '3'],
        ['Link', ['<a>', '<b>']],
      ],
      body: '{}',
    });
  });

  it('has the headers that `replayHeaders` keeps', () => {
    const headers = { location: '/orders/7', etag: '"1"' };
    const outcome = legacyResponse({ status: 201, headers }, (name) => name === 'location');
    expect(outcome).toMatchObject({ headers: [['location', '/orders/7']] });
  });

  it.each([204, 304])('has no body with status %i', (status) => {
    expect(response({ status, body: { id: 7 } })).toEqual({ status, headers: [], body: '' });
  });

  it('may be of any size, as a client has it already', () => {
    const outcome = legacyResponse({ status: 200, body: 'x'.repeat(2_000_000) }, all) as Outcome & {
      body: Buffer;
    };
    expect(outcome.body.length).toBe(2_000_000);
  });

  const circular: Record<string, unknown> = {};
  circular.self = circular;
  it.each<[string, unknown, RegExp]>([
    ['text', 'hunter2', /^A lookup gives { status, headers, body }, and not a string$/],
    ['an empty object', {}, /and not an object with nothing in it/],
    ['a value without status', { statusCode: 201, body: 'hunter2' }, /an object with statusCode, body$/],
    ['a status that is text', { status: '201' }, /status .* is not an HTTP status/],
    ['an interim status', { status: 100 }, /cannot be sent: its status cannot end a response/],
    ['headers that are a list', { status: 200, headers: [['a', 'b']] }, /an object of names and values/],
    ['headers in a Map', { status: 200, headers: new Map([['a', 'b']]) }, /an object of names and values/],
    ['headers of fetch', { status: 200, headers: new Headers({ a: 'b' }) }, /an object of names and values/],
    ['a header that is an object', { status: 200, headers: { a: {} } }, /The header a .* is not text/],
    ['a header that splits', { status: 200, headers: { a: 'b\r\nc: hunter2' } }, /cannot be sent/],
    ['a function as body', { status: 200, body: () => 1 }, /has no JSON form/],
    ['a promise as body', { status: 200, body: Promise.resolve('hunter2') }, /promise.*give what it holds/],
    ['a stream as body', { status: 200, body: Readable.from(['hunter2']) }, /stream.*give what it holds/],
    ['a stream of fetch', { status: 200, body: new Response('hunter2').body }, /stream.*give what it holds/],
    ['an ArrayBuffer as body', { status: 200, body: new ArrayBuffer(7) }, /ArrayBuffer.*give what it holds/],
    ['a circular body', { status: 200, body: circular }, /circular/i],
  ])('is refused without its values: %s', (_, answer, message) => {
    let thrown: unknown;
    try {
      legacyResponse(answer, all);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(TypeError);
    expect((thrown as Error).message).toMatch(message);
    expect((thrown as Error).message).not.toContain('hunter2');
  });
});

describe('a value of another system', () => {
  it('is what execute() gives', () => {
    expect(legacyValue({ value: { id: 7 } })).toMatchObject({ body: Buffer.from('{"id":7}') });
    expect(legacyValue({ value: undefined })).toMatchObject({ body: Buffer.alloc(0) });
  });

  it.each([7, 'old', {}, { status: 200 }, { value: 1n }])('is refused: %p', (answer) => {
    expect(() => legacyValue(answer)).toThrow(TypeError);
  });
});
