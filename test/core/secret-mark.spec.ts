import { createSecretKey } from 'node:crypto';
import { Digest, plainDigest } from '../../lib/core/digest';
import { IdempotencySetupError } from '../../lib/core/errors';
import { assertSameSecret } from '../../lib/core/secret-mark';

const secretOf = (text: string) => createSecretKey(Buffer.from(text.padEnd(32, '.')));
const keyed = (text: string, namespace?: string): Digest => new Digest({ secret: secretOf(text), namespace });

describe('The mark of a secret', () => {
  const refusal = (found: Digest, own: Digest): string => {
    try {
      assertSameSecret(found.markOfSecret, own, 'the table');
    } catch (error) {
      expect(error).toBeInstanceOf(IdempotencySetupError);
      return (error as Error).message;
    }
    return '';
  };

  it('is filed under an id that every instance of the namespace knows, whatever its secret', () => {
    expect(keyed('one').markId).toBe(plainDigest.markId);
    expect(keyed('one', 'a').markId).toBe(new Digest({ namespace: 'a' }).markId);
    expect(keyed('one', 'a').markId).not.toBe(plainDigest.markId);
  });

  it('does not show that two namespaces have the same secret', () => {
    expect(keyed('one', 'a').markOfSecret).not.toBe(keyed('one', 'b').markOfSecret);
  });

  it('lets the same secret pass, and none where there was none', () => {
    expect(refusal(keyed('one'), keyed('one'))).toBe('');
    expect(refusal(plainDigest, new Digest())).toBe('');
  });

  it.each<[string, Digest, Digest, RegExp]>([
    ['another', keyed('one'), keyed('two'), /with another `secret`.*Configure the `secret`/],
    ['a missing', keyed('one'), plainDigest, /with a `secret`, and this application has none.*Configure/],
    ['an additional', plainDigest, keyed('one'), /without a `secret`, and this application has one.*Remove/],
  ])('refuses %s secret, and says what to do', (_, found, own, message) => {
    expect(refusal(found, own)).toMatch(message);
    expect(refusal(found, own)).toContain('`namespace`');
  });
});
