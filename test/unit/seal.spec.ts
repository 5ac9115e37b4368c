import { createSecretKey, randomBytes, randomUUID, type KeyObject } from 'node:crypto';
import { inspect } from 'node:util';
import fc from 'fast-check';
import {
  recordId,
  type Claim,
  type ResponseOutcome,
  type SealedOutcome,
  type StoredOutcome,
} from '../../lib/core/record';
import { plainSeal, SealError, sealOf, type Seal } from '../../lib/core/seal';
import { InvalidOptionsError } from '../../lib/options/check';
import { resolveModuleOptions } from '../../lib/options/resolve';
import { claims, newClaim, outcomes, responses } from '../support/outcomes';

const newKey = (): KeyObject => createSecretKey(randomBytes(32));
const [one, other] = [newKey(), newKey()];
const seal = sealOf({ keys: [one], acceptPlain: true });

const response: ResponseOutcome = {
  kind: 'response',
  status: 201,
  headers: [['X-Card', '4242']],
  body: Buffer.from('a body of some length'),
};

function sealedBy(by: Seal, claim: Claim, outcome: ResponseOutcome = response): SealedOutcome {
  const stored = by.close(claim, outcome);
  if (stored.kind !== 'sealed') throw new Error(`not sealed, but ${stored.kind}`);
  return stored;
}

/** The message with which it is refused. */
function refusal(by: Seal, claim: Claim, stored: StoredOutcome): string {
  try {
    by.open(claim, stored);
  } catch (error) {
    expect(error).toBeInstanceOf(SealError);
    return (error as Error).message;
  }
  throw new Error('opened, although it should have been refused');
}

/** Made by another program, from the description in docs/encryption.md. */
const KEPT =
  'AAECAwQFBgcICQoLDA0OD6XDSuB/ICi82OasI64w8VZwZWmdulFVZaC2T9tgB3VeaZbV8he4cpyF7iJXVs28Xx5QwrhGB6cK+hVZGQ==';

const NOT_AUTHENTIC = /was changed since it was encrypted, or belongs to another record/;
const KEY_MISSING = /configure `encryption` with that key/;

describe('a sealed outcome', () => {
  it('opens in its own record as it was, byte for byte', () => {
    fc.assert(
      fc.property(claims, outcomes, (claim, outcome) => {
        expect(seal.open(claim, seal.close(claim, outcome))).toEqual(outcome);
      }),
    );
  });

  it('shows its status, and no byte of its headers and body', () => {
    fc.assert(
      fc.property(claims, responses, (claim, outcome) => {
        const stored = sealedBy(seal, claim, outcome);
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
    const contents = Array.from({ length: 50 }, () => sealedBy(seal, claim).content.toString('hex'));
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
    const stored = sealedBy(seal, claim);
    expect(refusal(seal, { ...claim, ...change(claim) }, stored)).toMatch(NOT_AUTHENTIC);
  });

  it('is refused with another status', () => {
    const claim = newClaim();
    expect(refusal(seal, claim, { ...sealedBy(seal, claim), status: 200 })).toMatch(NOT_AUTHENTIC);
  });

  it('is refused with any bit flipped', () => {
    const claim = newClaim();
    const stored = sealedBy(seal, claim);
    for (let bit = 0; bit < stored.content.length * 8; bit++) {
      const content = Buffer.from(stored.content);
      content[bit >> 3]! ^= 1 << (bit & 7);
      expect(refusal(seal, claim, { ...stored, content })).toMatch(NOT_AUTHENTIC);
    }
  });

  it('is refused cut short or made longer', () => {
    const claim = newClaim();
    const stored = sealedBy(seal, claim);
    for (let length = 0; length < stored.content.length; length++) {
      const content = stored.content.subarray(0, length);
      expect(refusal(seal, claim, { ...stored, content })).toMatch(NOT_AUTHENTIC);
    }
    const content = Buffer.concat([stored.content, Buffer.alloc(1)]);
    expect(refusal(seal, claim, { ...stored, content })).toMatch(NOT_AUTHENTIC);
  });

  it('opens whichever case the store gives its token back in', () => {
    const claim = newClaim({ token: randomUUID().toUpperCase() });
    const stored = sealedBy(seal, claim);
    expect(seal.open({ ...claim, token: claim.token.toLowerCase() }, stored)).toEqual(response);
  });

  it('is refused without its key, and without any', () => {
    const claim = newClaim();
    const stored = sealedBy(seal, claim);
    expect(refusal(sealOf({ keys: [other], acceptPlain: true }), claim, stored)).toMatch(KEY_MISSING);
    expect(refusal(plainSeal, claim, stored)).toMatch(KEY_MISSING);
  });

  it('is refused under the label of another key', () => {
    const both = sealOf({ keys: [one, other], acceptPlain: true });
    const claim = newClaim();
    const { label } = sealedBy(sealOf({ keys: [other], acceptPlain: true }), claim);
    expect(refusal(both, claim, { ...sealedBy(both, claim), label })).toMatch(NOT_AUTHENTIC);
  });

  it('opens with every key, and is made with the first', () => {
    const claim = newClaim();
    const before = sealedBy(seal, claim);
    const changing = sealOf({ keys: [one, other], acceptPlain: true });
    const changed = sealOf({ keys: [other, one], acceptPlain: true });
    const after = sealOf({ keys: [other], acceptPlain: true });
    expect(changed.open(claim, before)).toEqual(response);
    expect(seal.open(claim, sealedBy(changing, claim))).toEqual(response);
    expect(after.open(claim, sealedBy(changed, claim))).toEqual(response);
    expect(refusal(after, claim, before)).toMatch(KEY_MISSING);
  });

  it('names its key by what tells nothing of it, and the same in every process', () => {
    const key = createSecretKey(Buffer.alloc(32, 7));
    const { label } = sealedBy(sealOf({ keys: [key], acceptPlain: true }), newClaim());
    expect(label).toEqual(['A256GCM', 'ac31a3d0e3db6665']);
  });

  it('of the first version of this format still opens', () => {
    const kept = sealOf({ keys: [createSecretKey(Buffer.alloc(32, 7))], acceptPlain: false });
    const claim = newClaim({
      id: recordId('POST /leads', 'kept'),
      token: 'b4f1c3de-6a55-4c57-9d3c-2f0f6f2f9a10',
    });
    const content = Buffer.from(KEPT, 'base64');
    const stored = { kind: 'sealed', status: 201, label: ['A256GCM', 'ac31a3d0e3db6665'], content } as const;
    expect(kept.open(claim, stored)).toEqual(response);
  });
});

describe('an outcome that is not sealed', () => {
  const claim = newClaim();

  it('opens, unless it was said that none may', () => {
    expect(seal.open(claim, response)).toEqual(response);
    expect(plainSeal.open(claim, response)).toEqual(response);
    const strict = sealOf({ keys: [one], acceptPlain: false });
    expect(refusal(strict, claim, response)).toMatch(/not encrypted, and `encryption.acceptPlain` is false/);
  });

  it('is a tombstone under either: it has nothing to hide, and nothing to forge', () => {
    const tombstone = { kind: 'tombstone', status: 200, reason: 'too_large' } as const;
    const strict = sealOf({ keys: [one], acceptPlain: false });
    for (const each of [plainSeal, seal, strict]) {
      expect(each.close(claim, tombstone)).toEqual(tombstone);
      expect(each.open(claim, tombstone)).toEqual(tombstone);
    }
  });
});

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
    expect(resolveModuleOptions().encryption).toBeUndefined();
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
