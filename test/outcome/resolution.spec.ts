import { headersIn, resolvedOutcome, type Resolution } from '../../lib/outcome/resolution';
import { valueOf } from '../../lib/outcome/value-outcome';

describe('how an operator settles an outcome', () => {
  it('is nothing to record for `retry`, and the value or the response that a retry gets else', () => {
    expect(resolvedOutcome('retry')).toBeUndefined();
    expect(valueOf(resolvedOutcome({ value: { id: 1 } }))).toEqual({ id: 1 });
    expect(resolvedOutcome({ status: 201, headers: { Location: '/1' }, body: 'made' })).toEqual({
      kind: 'response',
      status: 201,
      headers: [['Location', '/1']],
      body: Buffer.from('made'),
    });
    expect(resolvedOutcome({ status: 204 })).toMatchObject({
      status: 204,
      headers: [],
      body: Buffer.alloc(0),
    });
  });

  it.each<[string, unknown, RegExp]>([
    ['something else', 'again', /"resolution" is 'again'/],
    ['null', null, /"resolution" is null/],
    ['an empty object', {}, /"resolution"/],
    ['a body that is no text', { status: 200, body: 1 }, /"body" is 1/],
    ['headers in a list', { status: 200, headers: [['A', '1']] }, /"headers" is/],
    ['a header that is no text', { status: 200, headers: { A: 1 } }, /"headers\.A" is 1/],
    [
      'a header of one request',
      { status: 200, headers: { 'Set-Cookie': 'a=b' } },
      /never replayed: leave it out/,
    ],
    ['a header twice', { status: 200, headers: { Link: '</1>', link: '</2>' } }, /"link" is given twice/],
    ['a value without a JSON form', { value: 1n }, /"value" has no JSON form/],
    ['a status that ends no response', { status: 100 }, /cannot be sent: its status/],
    ['a status that is none', { status: '200' }, /cannot be sent: its status/],
    [
      'a body that its status has not',
      { status: 204, body: 'made' },
      /cannot be sent: its status does not go with a body/,
    ],
  ])('is refused with %s', (_, given, message) => {
    expect(() => resolvedOutcome(given as Resolution)).toThrow(message);
  });

  it('has the headers that are typed, one a line, and loses none of them', () => {
    expect(headersIn(['Location: /1', 'X-Time:12:30'])).toEqual({ Location: '/1', 'X-Time': '12:30' });
    expect(() => headersIn(['Link: </1>', 'link: </2>'])).toThrow(/"link" is given twice/);
    expect(() => headersIn(['Location'])).toThrow(/'Name: value'/);
  });
});
