import { createHash, createSecretKey } from 'node:crypto';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { Digest, plainDigest } from '../../lib/core/digest';
import { runs } from '../support/arbitraries';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const secretOf = (text: string) => createSecretKey(Buffer.from(text.padEnd(32, '.')));
const keyed = (text: string, namespace?: string): Digest => new Digest({ secret: secretOf(text), namespace });

const texts = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.constantFrom('', '1:', '@1:a', '0:', 'a1:b'),
);
const namespaces = fc.option(fc.string({ minLength: 1, maxLength: 64 }), { nil: undefined });

describe('Ids', () => {
  it('without namespace and secret are what SHA-256 makes of the scope’s length, the scope and the key', () => {
    expect(plainDigest.idOf('POST /leads alice', 'key-1')).toBe(sha256('17:POST /leads alicekey-1'));
    expect(plainDigest.fingerprintOf('a', Buffer.from('b'))).toBe(sha256('ab'));
    expect(plainDigest.credentialsOf('x')).toBe(sha256('x'));
  });

  it.each([
    ['plain', undefined],
    ['keyed', secretOf('one')],
  ])('of different namespaces, scopes and keys are different (%s)', (_, secret) => {
    const triples = fc.tuple(namespaces, texts, texts);
    fc.assert(
      fc.property(triples, triples, ([n1, s1, k1], [n2, s2, k2]) => {
        const same = n1 === n2 && s1 === s2 && k1 === k2;
        const idOf = (namespace: string | undefined, scope: string, key: string): string =>
          new Digest({ namespace, secret }).idOf(scope, key);
        expect(idOf(n1, s1, k1) === idOf(n2, s2, k2)).toBe(same);
      }),
      runs(1_000),
    );
  });

  it('that differ only in where namespace, scope and key begin are different', () => {
    const spellings = [
      new Digest().idOf('a', 'bc'),
      new Digest().idOf('ab', 'c'),
      new Digest().idOf('', 'abc'),
      new Digest({ namespace: 'a' }).idOf('b', 'c'),
      new Digest({ namespace: 'a' }).idOf('', 'bc'),
      new Digest({ namespace: 'ab' }).idOf('', 'c'),
      new Digest().idOf('@1:a1:b', 'c'),
      new Digest({ namespace: '1:a' }).idOf('b', 'c'),
    ];
    expect(new Set(spellings).size).toBe(spellings.length);
  });
});

describe('Digests under a secret', () => {
  it('are 64 hexadecimal digits, the same for the same secret, and others for another or for none', () => {
    fc.assert(
      fc.property(texts, texts, (scope, key) => {
        const ids = [keyed('one'), keyed('two'), plainDigest].map((digest) => digest.idOf(scope, key));
        expect(new Set(ids).size).toBe(3);
        for (const id of ids) expect(id).toMatch(/^[0-9a-f]{64}$/);
        expect(keyed('one').idOf(scope, key)).toBe(ids[0]);
      }),
      runs(300),
    );
  });

  it('of one text for two purposes do not compare', () => {
    const digest = keyed('one');
    const text = '0:x'; // what an id is made of
    const all = [
      digest.idOf('', 'x'),
      digest.fingerprintOf(text),
      digest.credentialsOf(text),
      digest.markOfSecret,
    ];
    expect(new Set(all).size).toBe(all.length);
  });

  it('do not depend on how the parts of a fingerprint are cut', () => {
    for (const digest of [plainDigest, keyed('one')])
      expect(digest.fingerprintOf('ab', Buffer.from('c'))).toBe(digest.fingerprintOf('a', Buffer.from('bc')));
  });

  it('show nothing of the secret where they are printed', () => {
    expect(inspect(new Digest({ secret: secretOf('hush-hush') }), { depth: 10 })).not.toContain('hush-hush');
  });
});
