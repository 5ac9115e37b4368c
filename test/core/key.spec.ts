import fc from 'fast-check';
import { assertKey } from '../../lib/core/key';
import { runs, text } from '../support/arbitraries';

describe('a key', () => {
  it.each<[string, string, RegExp]>([
    ['no character', '', /it is empty/],
    ['one character too many', 'k'.repeat(11), /longer than 10 characters/],
    ['a control character of ASCII', 'a\u001f', /control characters/],
    ['a control character beyond ASCII', 'a\u0085', /control characters/],
    ['half of a surrogate pair', 'a\ud800', /not well-formed Unicode/],
  ])('is refused with %s', (_, key, message) => {
    expect(() => assertKey(key, 10)).toThrow(
      expect.objectContaining({
        code: 'key_invalid',
        message: expect.stringMatching(message) as string,
      }) as Error,
    );
  });

  it('that passes is the same after a store has held it as UTF-8', () => {
    fc.assert(
      fc.property(text, (key) => {
        try {
          assertKey(key, 255);
        } catch {
          return;
        }
        expect(Buffer.from(key).toString()).toBe(key);
        expect(key.length).toBeGreaterThan(0);
      }),
      runs(500),
    );
  });
});
