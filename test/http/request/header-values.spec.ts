import { valuesOf } from '../../../lib/http/request/header-values';
import { headOf, type Lines } from '../../support/header-lines';

describe('the values of a header', () => {
  it.each<[string, Lines, string, readonly string[]]>([
    ['that was not sent', [['X-B', 'b']], 'x-a', []],
    ['that was sent once', [['X-A', 'a, b']], 'x-a', ['a, b']],
    ['that was sent twice, which Node joins', [['X-A', 'a'], ['x-a', 'b, c']], 'x-a', ['a', 'b, c']], // prettier-ignore
    ['of which Node keeps the first', [['Authorization', 'a'], ['Authorization', 'b']], 'authorization', ['a', 'b']], // prettier-ignore
    [
      'that Node joins as cookies',
      [
        ['Cookie', 'a=1'],
        ['Cookie', 'b=2'],
      ],
      'cookie',
      ['a=1', 'b=2'],
    ],
    ['that was sent empty', [['X-A', '']], 'x-a', ['']],
  ])('%s are its lines', (_, lines, name, values) => {
    expect(valuesOf(headOf(lines), name)).toEqual(values);
  });

  it.each<[string, string | string[] | undefined, readonly string[]]>([
    ['changed', 'tenant-a', ['tenant-a']],
    ['made a list of', ['b', 'c'], ['b', 'c']],
    ['removed', undefined, []],
  ])('are what middleware has %s, however often the client has sent it', (_, now, values) => {
    for (const times of [1, 2]) {
      const head = headOf(Array.from({ length: times }, () => ['X-A', 'a'] as const));
      expect(valuesOf({ ...head, headers: { 'x-a': now } }, 'x-a')).toEqual(values);
    }
  });

  it('are what middleware has added', () => {
    expect(valuesOf({ rawHeaders: [], headers: { 'x-a': 'a' } }, 'x-a')).toEqual(['a']);
  });
});
