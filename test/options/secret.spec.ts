import { inspect } from 'node:util';
import { secretKey } from '../../lib/options/secret';

const text = 's'.repeat(32);

describe('a secret', () => {
  it('is the same one as text, as bytes, and with the newline that a file ends with', () => {
    const keys = [text, `${text}\n`, Buffer.from(text)].map((secret) => secretKey('test', secret));
    expect(keys.every((key) => key.equals(keys[0]!))).toBe(true);
    expect(secretKey('test', Buffer.from(`${text}\n`)).equals(keys[0]!)).toBe(false);
  });

  it.each<[string, unknown]>([
    ['too short', 's'.repeat(31)],
    ['long only by blanks', `${'s'.repeat(31)}   `],
    ['no text', 12_345],
    ['not well-formed', `${text}\ud800`],
    ['missing', undefined],
  ])('is refused where it is %s, without a word of it', (_, secret) => {
    expect(() => secretKey('test', secret)).toThrow(
      /^test: option "secret" is not valid \(its value is not shown\), but must be a secret of at least 32 bytes/,
    );
  });

  it('shows nothing where it is printed', () => {
    const bytes = Buffer.from(text);
    const printed =
      inspect(secretKey('test', text), { depth: 9, showHidden: true }) +
      JSON.stringify(secretKey('test', text));
    expect(printed).not.toContain(text);
    expect(printed).not.toContain(bytes.toString('hex'));
  });
});
