import {
  createCipheriv,
  createDecipheriv,
  createHash,
  hkdfSync,
  randomBytes,
  type KeyObject,
} from 'node:crypto';
import type { EncryptionSettings } from '../options/resolve';
import type { Claim, Outcome, ResponseOutcome, EncryptedOutcome, StoredOutcome } from '../core/record';
import { outcomeOf } from './stored-outcome';

/** What an outcome passes on its way into a store and out of it. */
export interface OutcomeCipher {
  encrypt(claim: Claim, outcome: Outcome): StoredOutcome;
  /** @throws OutcomeCipherError if the outcome was not stored for this claim under one of our keys */
  decrypt(claim: Claim, stored: StoredOutcome): Outcome;
}

const PROBLEMS = {
  key_missing:
    'it is encrypted with a key that this application does not have: configure `encryption` with that key',
  not_authentic: 'it was changed since it was encrypted, or belongs to another record',
  plain_refused: 'it is not encrypted, and `encryption.acceptPlain` is false',
} as const;

/** A stored outcome that is refused. Its message says what to do, and nothing of the content. */
export class OutcomeCipherError extends Error {
  constructor(kind: keyof typeof PROBLEMS) {
    super(PROBLEMS[kind]);
    this.name = 'SealError';
  }
}

/** Stores outcomes in the clear; refuses encrypted ones. */
export const noEncryption: OutcomeCipher = {
  encrypt: (_, outcome) => outcome,
  decrypt: (_, stored) => {
    if (stored.kind === 'encrypted') throw new OutcomeCipherError('key_missing');
    return stored;
  },
};

export function outcomeCipherOf(encryption: EncryptionSettings | undefined): OutcomeCipher {
  return encryption ? new AesGcmCipher(encryption) : noEncryption;
}

const ALGORITHM = 'A256GCM';
/** Part of everything that is derived and authenticated: another format is another label. */
const FORMAT = 'nestjs-idempotency/1';
const SALT_BYTES = 16;
const TAG_BYTES = 16;
const KEY_BYTES = 32;
const NONCE_BYTES = 12;

/**
 * AES-256-GCM over headers and body, bound to their record. Each response has its own key and nonce, derived from
 * a random salt (HKDF, RFC 5869). So the 2^32 messages per key that random nonces allow (NIST SP 800-38D, 8.3) do
 * not limit it.
 */
class AesGcmCipher implements OutcomeCipher {
  private readonly keys: ReadonlyMap<string, KeyObject>;
  private readonly first: readonly [id: string, key: KeyObject];
  private readonly acceptPlain: boolean;

  constructor({ keys, acceptPlain }: EncryptionSettings) {
    this.first = [keyIdOf(keys[0]), keys[0]];
    this.keys = new Map(keys.map((key) => [keyIdOf(key), key]));
    this.acceptPlain = acceptPlain;
  }

  /** A tombstone has no content to hide. */
  encrypt(claim: Claim, outcome: Outcome): StoredOutcome {
    if (outcome.kind === 'tombstone') return outcome;
    const [id, key] = this.first;
    const salt = randomBytes(SALT_BYTES);
    const cipher = createCipheriv('aes-256-gcm', ...derived(key, salt), { authTagLength: TAG_BYTES });
    cipher.setAAD(boundTo(claim, outcome.status));
    const sealed = [...packed(outcome).map((part) => cipher.update(part)), cipher.final()];
    return {
      kind: 'encrypted',
      status: outcome.status,
      label: [ALGORITHM, id],
      content: Buffer.concat([salt, cipher.getAuthTag(), ...sealed]),
    };
  }

  decrypt(claim: Claim, stored: StoredOutcome): Outcome {
    if (stored.kind === 'tombstone') return stored;
    if (stored.kind === 'response') {
      if (!this.acceptPlain) throw new OutcomeCipherError('plain_refused');
      return stored;
    }
    const key = this.keys.get(stored.label[1]);
    if (!key) throw new OutcomeCipherError('key_missing');
    return unpacked(stored.status, decrypted(key, claim, stored));
  }
}

/** Names a key without telling anything about it. */
export function keyIdOf(key: KeyObject): string {
  return createHash('sha256').update(`${FORMAT} key id\0`).update(key.export()).digest('hex').slice(0, 16);
}

function derived(key: KeyObject, salt: Buffer): [key: Buffer, nonce: Buffer] {
  const bytes = Buffer.from(hkdfSync('sha256', key, salt, `${FORMAT} ${ALGORITHM}`, KEY_BYTES + NONCE_BYTES));
  return [bytes.subarray(0, KEY_BYTES), bytes.subarray(KEY_BYTES)];
}

/** What is authenticated beside the content, so that it opens in its own record only. Postgres lowers a token's case. */
function boundTo({ id, token, fingerprint }: Claim, status: number): Buffer {
  return Buffer.from(JSON.stringify([FORMAT, ALGORITHM, id.hash, token.toLowerCase(), fingerprint, status]));
}

function decrypted(key: KeyObject, claim: Claim, { status, content }: EncryptedOutcome): Buffer {
  const salt = content.subarray(0, SALT_BYTES);
  const tag = content.subarray(SALT_BYTES, SALT_BYTES + TAG_BYTES);
  if (tag.length < TAG_BYTES) throw new OutcomeCipherError('not_authentic');
  const decipher = createDecipheriv('aes-256-gcm', ...derived(key, salt), { authTagLength: TAG_BYTES });
  decipher.setAAD(boundTo(claim, status));
  decipher.setAuthTag(tag);
  try {
    return Buffer.concat([decipher.update(content.subarray(SALT_BYTES + TAG_BYTES)), decipher.final()]);
  } catch {
    throw new OutcomeCipherError('not_authentic');
  }
}

/** The length of the headers (4 bytes, big-endian), the headers as JSON, the body. */
function packed({ headers, body }: ResponseOutcome): Buffer[] {
  const json = Buffer.from(JSON.stringify(headers));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(json.length);
  return [length, json, body];
}

/** @throws MalformedOutcomeError although it is authentic: Node may have become stricter since it was sealed */
function unpacked(status: number, content: Buffer): Outcome {
  const end = 4 + content.readUInt32BE(0);
  const headers: unknown = JSON.parse(content.toString('utf8', 4, end));
  const outcome = outcomeOf({ status, tombstone: null, headers, body: content.subarray(end) });
  if (outcome.kind === 'encrypted') throw new OutcomeCipherError('not_authentic');
  return outcome;
}
