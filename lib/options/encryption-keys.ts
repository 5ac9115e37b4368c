import { createSecretKey, type KeyObject } from 'node:crypto';
import { z } from 'zod';

const KEY_BYTES = 32;
const KEY_FORM =
  'a key of 32 bytes, as a Buffer or as text in base64, base64url or hexadecimal (`openssl rand -base64 32` makes one)';

/** A KeyObject does not show its bytes when it is printed or serialised. */
const key = z.unknown().transform((given, context): KeyObject => {
  const bytes = keyBytes(given);
  if (bytes) return createSecretKey(bytes);
  context.addIssue({ code: 'custom', message: KEY_FORM });
  return z.NEVER;
});

export const encryptionKeys = z
  .array(key, { error: `a list of keys, each ${KEY_FORM}` })
  .min(1, { error: `a list of at least one key, which is ${KEY_FORM}` })
  .refine(allDiffer, { error: 'a list without the same key twice' })
  .transform((keys) => keys as [KeyObject, ...KeyObject[]]);

function keyBytes(given: unknown): Buffer | undefined {
  if (given instanceof Uint8Array) return given.length === KEY_BYTES ? Buffer.from(given) : undefined;
  if (typeof given !== 'string') return undefined;
  const text = given.trim(); // a secret that is read from a file often ends with a newline
  if (/^[0-9a-f]{64}$/i.test(text)) return Buffer.from(text, 'hex');
  return inAlphabet(text, 'base64') ?? inAlphabet(text, 'base64url');
}

/** Node decodes any text, so a key with a typing error would pass for another one. */
function inAlphabet(text: string, encoding: 'base64' | 'base64url'): Buffer | undefined {
  const bytes = Buffer.from(text, encoding);
  const same = bytes.toString(encoding).replace(/=$/, '') === text.replace(/=$/, '');
  return same && bytes.length === KEY_BYTES ? bytes : undefined;
}

function allDiffer(keys: readonly KeyObject[]): boolean {
  return keys.every((one, index) => !keys.slice(index + 1).some((other) => one.equals(other)));
}
