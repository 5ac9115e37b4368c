import { fromBody, fromHeader } from '../../../lib';
import { headOf } from '../../support/header-lines';
import { contextOf } from '../../support/request-context';

const keyOfBody = (path: string, body: unknown) => fromBody(path)(contextOf({ body, raw: { headers: {} } }));
const keyOfHeaders = (name: string, ...lines: [string, string][]) =>
  fromHeader(name)(contextOf(headOf(lines)));

describe('a key from the body', () => {
  it.each<[string, unknown, string | undefined]>([
    ['id', { id: 'evt_1' }, 'evt_1'],
    ['id', { id: 0 }, '0'],
    ['id', { id: -7 }, '-7'],
    ['id', { id: 12n }, '12'],
    ['id', { id: '' }, ''], // refused behind it, as each empty key is
    ['data.object.id', { data: { object: { id: 'in_1' } } }, 'in_1'],
    ['entry.0.id', { entry: [{ id: 'wamid.1' }] }, 'wamid.1'],
    ['id', Object.assign(Object.create(null) as object, { id: 'a' }), 'a'],
  ])('at %s of %j is %j', (path, body, key) => {
    expect(keyOfBody(path, body)).toBe(key);
  });

  it.each<[string, unknown]>([
    ['id', {}],
    ['id', { id: null }],
    ['id', undefined],
    ['id', null],
    ['id', ''],
    ['length', 'text'],
    ['data.id', { data: 'text' }],
    ['data.id', { 'data.id': 'a' }],
    ['constructor', {}],
    ['constructor.name', {}],
    ['__proto__.constructor.name', {}],
  ])('is not there at %s of %j', (path, body) => {
    expect(keyOfBody(path, body)).toBeUndefined();
  });

  it.each<[unknown]>([[true], [{}], [[]], [['a']], [1.5], [NaN], [2 ** 53], [-(2 ** 53)], [1e300]])(
    'is refused where its value is %p: two of these could be one',
    (id) => {
      expect(() => keyOfBody('id', { id })).toThrow(/not valid: `id` of the body is neither/);
    },
  );

  it('is looked for where middleware has parsed the body of a Fastify request', () => {
    expect(fromBody('id')(contextOf({ raw: { headers: {}, body: { id: 'a' } } }))).toBe('a');
  });

  it('is an error of the application where no parser has read the body', () => {
    expect(() => keyOfBody('id', Buffer.from('{"id":1}'))).toThrow(TypeError);
    expect(() => keyOfBody('id', Buffer.from('{"id":1}'))).toThrow(/needs a parsed body.*`rawBody: true`/);
  });

  it.each([[''], ['.'], ['a.'], ['.a'], ['a..b'], [undefined], [7]])('has no path %p', (path) => {
    expect(() => fromBody(path as string)).toThrow(/^fromBody\(\): .* is not a path, such as 'id'/);
  });
});

describe('a key from a header', () => {
  it('is its value as it was sent, whatever the case of its name', () => {
    const id = '72d3162e-cc78-11e3-81ab-4c9367dc0958';
    expect(keyOfHeaders('X-GitHub-Delivery', ['x-github-delivery', id])).toBe(id);
    expect(keyOfHeaders('X-GitHub-Delivery', ['X-GITHUB-DELIVERY', '"a, b"'])).toBe('"a, b"');
  });

  it('is not there without the header', () => {
    expect(keyOfHeaders('X-GitHub-Delivery', ['X-GitHub-Event', 'push'])).toBeUndefined();
  });

  it('is one where it was sent twice alike, and refused where it was not', () => {
    expect(keyOfHeaders('X-Id', ['X-Id', 'a'], ['x-id', 'a'])).toBe('a');
    expect(() => keyOfHeaders('X-Id', ['X-Id', 'a'], ['x-id', 'b'])).toThrow(
      /sent more than once, with different values/,
    );
  });

  it.each([[''], ['X GitHub'], ['X:Y'], ['Ä'], [undefined]])('has no name %p', (name) => {
    expect(() => fromHeader(name!)).toThrow(/^fromHeader\(\): .* is not a header name, such as/);
  });
});

it('sources of keys show by their names what they are', () => {
  expect([fromBody('data.id').name, fromHeader('X-Id').name]).toEqual([
    "fromBody('data.id')",
    "fromHeader('X-Id')",
  ]);
});
