import fc from 'fast-check';
import { normalizedPath } from '../../../lib/http/request/path';
import { runs, text } from '../../support/arbitraries';

describe('a normalized path', () => {
  it.each([
    ['/a/b-c._~', '/a/b-c._~'],
    ['/%7euser', '/~user'],
    ['/%41%2fb', '/A%2Fb'],
    ['/a b/é', '/a%20b/%C3%A9'],
    ['/%e9', '/%E9'],
    ['/100%', '/100%'],
    ['/%zz/%41', '/%zz/%41'],
    ['/a%2Fb', '/a%2Fb'],
    ['/\ud800', '/\ud800'],
  ])('of %s is %s', (path, normalized) => {
    expect(normalizedPath(path)).toBe(normalized);
  });

  it('is its own normalized path', () => {
    fc.assert(
      fc.property(fc.oneof(text, fc.webPath()), (path) => {
        expect(normalizedPath(normalizedPath(path))).toBe(normalizedPath(path));
      }),
      runs(500),
    );
  });

  it('means what the path meant: it decodes to the same text', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme' }), { minLength: 1 }), (parts) => {
        const path = parts.map((part) => `/${encodeURIComponent(part)}`).join('');
        expect(decodeURIComponent(normalizedPath(path))).toBe(decodeURIComponent(path));
        expect(normalizedPath(path).split('/')).toHaveLength(parts.length + 1);
      }),
      runs(500),
    );
  });
});
