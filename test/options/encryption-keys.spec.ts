import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import { InvalidOptionsError } from '../../lib/options/validate';
import { resolveModuleOptions } from '../../lib/options/resolve';

describe('the keys', () => {
  const bytes = randomBytes(32);
  const settings = (keys: unknown, more: object = {}) =>
    resolveModuleOptions({ encryption: { keys, ...more } as never }).encryption;

  it.each<[string, unknown]>([
    ['a Buffer', bytes],
    ['a Uint8Array', new Uint8Array(bytes)],
    ['base64', bytes.toString('base64')],
    ['base64 without padding', bytes.toString('base64').replace('=', '')],
    ['base64url', bytes.toString('base64url')],
    ['hexadecimal', bytes.toString('hex')],
    ['hexadecimal in upper case', bytes.toString('hex').toUpperCase()],
    ['a file’s content', `${bytes.toString('base64')}\n`],
  ])('are taken as %s', (_, given) => {
    expect(settings([given])?.keys.map((key) => key.export())).toEqual([bytes]);
  });

  it('are not printed with the settings', () => {
    const printed =
      inspect(settings([bytes]), { depth: 10, showHidden: true }) + JSON.stringify(settings([bytes]));
    expect(printed).not.toContain(spaced(bytes));
    for (const form of ['hex', 'base64', 'latin1'] as const)
      expect(printed).not.toContain(bytes.toString(form));
  });

  it('come with plain records accepted, unless it is said otherwise', () => {
    expect(settings([bytes])?.acceptPlain).toBe(true);
    expect(settings([bytes], { acceptPlain: false })?.acceptPlain).toBe(false);
    expect(resolveModuleOptions({}).encryption).toBeUndefined();
  });

  const text = bytes.toString('base64');
  const typo = (text.startsWith('A') ? 'B' : 'A') + text.slice(1, -2) + (text.at(-2) === 'B' ? 'C=' : 'B=');
  it.each<[string, unknown, RegExp]>([
    ['too short', [text.slice(4)], /"encryption.keys.0" is not valid .* 32 bytes/],
    ['too long', [text.replace('=', 'AA')], /"encryption.keys.0" is not valid/],
    ['a Buffer of another length', [bytes.subarray(1)], /"encryption.keys.0" is not valid/],
    ['a passphrase', ['correct horse battery staple, 32'], /"encryption.keys.0" is not valid/],
    ['the second of them', [bytes, text.slice(1)], /"encryption.keys.1" is not valid/],
    ['text that no 32 bytes give', [typo], /"encryption.keys.0" is not valid/],
    ['both alphabets in one', [`+_${text.slice(2)}`], /"encryption.keys.0" is not valid/],
    ['undefined, as of a variable that is not set', [undefined], /"encryption.keys.0" is not valid/],
    ['none', [], /"encryption.keys" is not valid .* at least one key/],
    ['no list', text, /"encryption.keys" is not valid/],
    ['one twice', [text, bytes.toString('hex')], /"encryption.keys" is not valid .* the same key twice/],
  ])('are refused at start, by a message that shows none: %s', (_, keys, message) => {
    const refused = (): unknown => settings(keys);
    expect(refused).toThrow(message);
    expect(refused).toThrow(InvalidOptionsError);
    expectHidden(refused);
  });

  it.each<[string, object]>([
    ['in place of the options', { encryption: text }],
    ['in a list in their place', { encryption: [text] }],
    ['under a wrong name', { encryption: { key: text } }],
    ['in place of a flag', { encryption: { keys: [bytes], acceptPlain: text } }],
    ['in options that are a list', [{ encryption: { keys: [text] } }]],
  ])('are not shown either where they stand %s', (_, options) => {
    expectHidden(() => resolveModuleOptions(options));
  });

  function expectHidden(refused: () => unknown): void {
    try {
      refused();
    } catch (error) {
      const shown = inspect(error, { depth: 10, showHidden: true });
      for (const secret of [text.slice(5, 25), bytes.toString('hex').slice(10, 30), spaced(bytes), 'horse'])
        expect(shown).not.toContain(secret);
      return;
    }
    throw new Error('accepted');
  }
});

/** Some bytes as they are shown of a Buffer that is printed. */
function spaced(bytes: Buffer): string {
  return inspect(bytes).slice(20, 50);
}
