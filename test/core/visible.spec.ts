import fc from 'fast-check';
import { visible, visibleJson, visibleLines } from '../../lib/core/visible';
import { runs } from '../support/arbitraries';

/** What a terminal obeys, or a reader does not see. */
const UNSEEN = /[\p{C}\p{Default_Ignorable_Code_Point}\u2028\u2029]/u;
const anyText = fc.string({ unit: 'binary' });

describe('a text for people', () => {
  it('shows characters that are not seen, or change how others are', () => {
    expect(visible('a\u001b[31m\u202eb\u2028 é🙂')).toBe('a\\u{1b}[31m\\u{202e}b\\u{2028} é🙂');
    expect(visible('\u009b2J\u007f\ud800')).toBe('\\u{9b}2J\\u{7f}\\u{d800}');
    // Letters and marks that look like nothing, so that two keys look the same.
    expect(visible('a\u115f\u3164\u034f\ufe00')).toBe('a\\u{115f}\\u{3164}\\u{34f}\\u{fe00}');
  });

  it('has nothing that a terminal obeys, whatever it is made of', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        expect(visible(text)).not.toMatch(UNSEEN);
        expect(visibleLines(text).replaceAll('\n', '')).not.toMatch(UNSEEN);
        expect(visibleLines(text).split('\n')).toHaveLength(text.split('\n').length);
      }),
      runs(500),
    );
  });

  it('is the same value as JSON, with nothing that a terminal obeys', () => {
    fc.assert(
      fc.property(fc.dictionary(anyText, anyText), fc.option(fc.constant(2)), (value, space) => {
        const json = visibleJson(value, space ?? undefined);
        expect(json.replaceAll('\n', '')).not.toMatch(UNSEEN);
        expect(JSON.parse(json)).toEqual(JSON.parse(JSON.stringify(value)));
      }),
      runs(500),
    );
  });
});
