import { createSecretKey, type KeyObject } from 'node:crypto';
import { z } from 'zod';
import { validate } from './validate';

const LEAST_BYTES = 32;
const SECRET_FORM =
  'a secret of at least 32 bytes, as text or as a Buffer (`openssl rand -base64 32` makes one)';

/** A KeyObject shows its bytes to nothing that prints or serialises it. */
export const secretSchema = z.unknown().transform((given, context): KeyObject => {
  const bytes = bytesOf(given);
  if (bytes && bytes.length >= LEAST_BYTES) return createSecretKey(bytes);
  context.addIssue({ code: 'custom', message: SECRET_FORM });
  return z.NEVER;
});

/** @throws InvalidOptionsError */
export function secretKey(where: string, secret: unknown): KeyObject {
  return validate(z.object({ secret: secretSchema }), { secret }, where).secret;
}

function bytesOf(given: unknown): Buffer | undefined {
  if (given instanceof Uint8Array) return Buffer.from(given);
  // A secret that is read from a file often ends with a newline, and is the same one without it.
  return typeof given === 'string' && given.isWellFormed() ? Buffer.from(given.trim()) : undefined;
}
