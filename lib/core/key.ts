import { IdempotencyError } from './errors';

const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

/**
 * Refuses a key before any store is asked.
 * @throws IdempotencyError `key_invalid` for a key that is empty, too long, has control characters or is not
 * well-formed Unicode (two different lone surrogates would be stored as the same character)
 */
export function assertKey(key: string, maxLength: number): void {
  if (key.length === 0) throw invalidKey('it is empty');
  if (key.length > maxLength) throw invalidKey(`it is longer than ${maxLength} characters`);
  if (CONTROL.test(key)) throw invalidKey('it contains control characters');
  if (!key.isWellFormed()) throw invalidKey('it is not well-formed Unicode');
}

export function invalidKey(reason: string): IdempotencyError {
  return new IdempotencyError('key_invalid', `The idempotency key is not valid: ${reason}.`);
}
