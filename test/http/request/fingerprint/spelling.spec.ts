import fc from 'fast-check';
import { LONGEST, spellBytes, Spelling } from '../../../../lib/http/request/fingerprint/spelling';
import { runs } from '../../../support/arbitraries';

const spelled = (pieces: readonly string[]): string => {
  const spelling = new Spelling('');
  for (const piece of pieces) spelling.add(piece);
  return spelling.end('');
};

describe('a spelling', () => {
  it('depends on its text and not on its pieces', () => {
    const pieces = fc.array(fc.string({ maxLength: 9_000, size: 'max' }), { maxLength: 6 });
    fc.assert(
      fc.property(pieces, (given) => {
        expect(spelled(given)).toBe(spelled([given.join('')]));
      }),
      runs(50),
    );
  });

  it('is the text itself up to its longest, and else a digest that no text can spell', () => {
    const longest = 'x'.repeat(LONGEST);
    expect(spelled([longest])).toBe(longest);
    expect(spelled([longest, 'x'])).toMatch(/^#[0-9a-f]{64}$/);
    expect(spelled([longest, 'x'])).not.toBe(spelled([longest, 'y']));
    expect(spelled([longest.repeat(100)])).not.toBe(spelled([longest.repeat(101)]));
  });

  it('of bytes names what they are', () => {
    expect(spellBytes('raw', Buffer.from('a'))).not.toBe(spellBytes('Uint8Array', Buffer.from('a')));
    expect(spellBytes('raw', Buffer.from('a'))).not.toBe(spellBytes('raw', Buffer.from('b')));
  });
});
