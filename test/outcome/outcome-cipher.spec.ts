import { createSecretKey, randomBytes, randomUUID, type KeyObject } from 'node:crypto';
import fc from 'fast-check';
import {
  recordId,
  type Claim,
  type ResponseOutcome,
  type EncryptedOutcome,
  type StoredOutcome,
} from '../../lib/core/record';
import {
  noEncryption,
  OutcomeCipherError,
  outcomeCipherOf,
  type OutcomeCipher,
} from '../../lib/outcome/outcome-cipher';
import { claims, newClaim, outcomes, responses } from '../support/outcomes';

const newKey = (): KeyObject => createSecretKey(randomBytes(32));
const [one, other] = [newKey(), newKey()];
const cipher = outcomeCipherOf({ keys: [one], acceptPlain: true });

const response: ResponseOutcome = {
  kind: 'response',
  status: 201,
  headers: [['X-Card', '4242']],
  body: Buffer.from('a body of some length'),
};

function sealedBy(by: OutcomeCipher, claim: Claim, outcome: ResponseOutcome = response): EncryptedOutcome {
  const stored = by.encrypt(claim, outcome);
  if (stored.kind !== 'encrypted') throw new Error(`not sealed, but ${stored.kind}`);
  return stored;
}

/** The message with which it is refused. */
function refusal(by: OutcomeCipher, claim: Claim, stored: StoredOutcome): string {
  try {
    by.decrypt(claim, stored);
  } catch (error) {
    expect(error).toBeInstanceOf(OutcomeCipherError);
    return (error as Error).message;
  }
  throw new Error('opened, although it should have been refused');
}

/** Made by another program, from the description in docs/operate/encryption.md. */
const KEPT =
  'AAECAwQFBgcICQoLDA0OD6XDSuB/ICi82OasI64w8VZwZWmdulFVZaC2T9tgB3VeaZbV8he4cpyF7iJXVs28Xx5QwrhGB6cK+hVZGQ==';

const NOT_AUTHENTIC = /was changed since it was encrypted, or belongs to another record/;
const KEY_MISSING = /configure `encryption` with that key/;

describe('a sealed outcome', () => {
  it('opens in its own record as it was, byte for byte', () => {
    fc.assert(
      fc.property(claims, outcomes, (claim, outcome) => {
        expect(cipher.decrypt(claim, cipher.encrypt(claim, outcome))).toEqual(outcome);
      }),
    );
  });

  it('shows its status, and no byte of its headers and body', () => {
    fc.assert(
      fc.property(claims, responses, (claim, outcome) => {
        const stored = sealedBy(cipher, claim, outcome);
        expect(Object.keys(stored).sort()).toEqual(['content', 'kind', 'label', 'status']);
        expect(stored.status).toBe(outcome.status);
        const length = 16 + 16 + 4 + Buffer.byteLength(JSON.stringify(outcome.headers)) + outcome.body.length;
        expect(stored.content).toHaveLength(length);
        if (outcome.body.length >= 6) expect(stored.content.includes(outcome.body)).toBe(false);
      }),
    );
  });

  it('is another one each time, also for the same response of the same record', () => {
    const claim = newClaim();
    const contents = Array.from({ length: 50 }, () => sealedBy(cipher, claim).content.toString('hex'));
    for (const [from, to] of [
      [0, 32], // salt
      [32, 64], // tag
      [64, undefined],
    ] as const) {
      expect(new Set(contents.map((content) => content.slice(from, to))).size).toBe(50);
    }
  });

  it.each<[string, (claim: Claim) => Partial<Claim>]>([
    ['key', () => ({ id: recordId('POST /leads', randomUUID()) })],
    ['scope', ({ id }) => ({ id: recordId('POST /orders', id.key) })],
    ['token', () => ({ token: randomUUID() })],
    ['fingerprint', () => ({ fingerprint: 'b'.repeat(64) })],
  ])('is refused in a record of another %s', (_, change) => {
    const claim = newClaim();
    const stored = sealedBy(cipher, claim);
    expect(refusal(cipher, { ...claim, ...change(claim) }, stored)).toMatch(NOT_AUTHENTIC);
  });

  it('is refused with another status', () => {
    const claim = newClaim();
    expect(refusal(cipher, claim, { ...sealedBy(cipher, claim), status: 200 })).toMatch(NOT_AUTHENTIC);
  });

  it('is refused with any bit flipped', () => {
    const claim = newClaim();
    const stored = sealedBy(cipher, claim);
    for (let bit = 0; bit < stored.content.length * 8; bit++) {
      const content = Buffer.from(stored.content);
      content[bit >> 3]! ^= 1 << (bit & 7);
      expect(refusal(cipher, claim, { ...stored, content })).toMatch(NOT_AUTHENTIC);
    }
  });

  it('is refused cut short or made longer', () => {
    const claim = newClaim();
    const stored = sealedBy(cipher, claim);
    for (let length = 0; length < stored.content.length; length++) {
      const content = stored.content.subarray(0, length);
      expect(refusal(cipher, claim, { ...stored, content })).toMatch(NOT_AUTHENTIC);
    }
    const content = Buffer.concat([stored.content, Buffer.alloc(1)]);
    expect(refusal(cipher, claim, { ...stored, content })).toMatch(NOT_AUTHENTIC);
  });

  it('opens whichever case the store gives its token back in', () => {
    const claim = newClaim({ token: randomUUID().toUpperCase() });
    const stored = sealedBy(cipher, claim);
    expect(cipher.decrypt({ ...claim, token: claim.token.toLowerCase() }, stored)).toEqual(response);
  });

  it('is refused without its key, and without any', () => {
    const claim = newClaim();
    const stored = sealedBy(cipher, claim);
    expect(refusal(outcomeCipherOf({ keys: [other], acceptPlain: true }), claim, stored)).toMatch(
      KEY_MISSING,
    );
    expect(refusal(noEncryption, claim, stored)).toMatch(KEY_MISSING);
  });

  it('is refused under the label of another key', () => {
    const both = outcomeCipherOf({ keys: [one, other], acceptPlain: true });
    const claim = newClaim();
    const { label } = sealedBy(outcomeCipherOf({ keys: [other], acceptPlain: true }), claim);
    expect(refusal(both, claim, { ...sealedBy(both, claim), label })).toMatch(NOT_AUTHENTIC);
  });

  it('opens with every key, and is made with the first', () => {
    const claim = newClaim();
    const before = sealedBy(cipher, claim);
    const changing = outcomeCipherOf({ keys: [one, other], acceptPlain: true });
    const changed = outcomeCipherOf({ keys: [other, one], acceptPlain: true });
    const after = outcomeCipherOf({ keys: [other], acceptPlain: true });
    expect(changed.decrypt(claim, before)).toEqual(response);
    expect(cipher.decrypt(claim, sealedBy(changing, claim))).toEqual(response);
    expect(after.decrypt(claim, sealedBy(changed, claim))).toEqual(response);
    expect(refusal(after, claim, before)).toMatch(KEY_MISSING);
  });

  it('names its key by what tells nothing of it, and the same in every process', () => {
    const key = createSecretKey(Buffer.alloc(32, 7));
    const { label } = sealedBy(outcomeCipherOf({ keys: [key], acceptPlain: true }), newClaim());
    expect(label).toEqual(['A256GCM', 'ac31a3d0e3db6665']);
  });

  it('of the first version of this format still opens', () => {
    const kept = outcomeCipherOf({ keys: [createSecretKey(Buffer.alloc(32, 7))], acceptPlain: false });
    const claim = newClaim({
      id: recordId('POST /leads', 'kept'),
      token: 'b4f1c3de-6a55-4c57-9d3c-2f0f6f2f9a10',
    });
    const content = Buffer.from(KEPT, 'base64');
    const stored = {
      kind: 'encrypted',
      status: 201,
      label: ['A256GCM', 'ac31a3d0e3db6665'],
      content,
    } as const;
    expect(kept.decrypt(claim, stored)).toEqual(response);
  });
});

describe('an outcome that is not sealed', () => {
  const claim = newClaim();

  it('opens, unless it was said that none may', () => {
    expect(cipher.decrypt(claim, response)).toEqual(response);
    expect(noEncryption.decrypt(claim, response)).toEqual(response);
    const strict = outcomeCipherOf({ keys: [one], acceptPlain: false });
    expect(refusal(strict, claim, response)).toMatch(/not encrypted, and `encryption.acceptPlain` is false/);
  });

  it('is a tombstone under either: it has nothing to hide, and nothing to forge', () => {
    const tombstone = { kind: 'tombstone', status: 200, reason: 'too_large' } as const;
    const strict = outcomeCipherOf({ keys: [one], acceptPlain: false });
    for (const each of [noEncryption, cipher, strict]) {
      expect(each.encrypt(claim, tombstone)).toEqual(tombstone);
      expect(each.decrypt(claim, tombstone)).toEqual(tombstone);
    }
  });
});
