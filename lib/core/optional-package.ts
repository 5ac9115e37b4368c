import { types } from 'node:util';
import { IdempotencySetupError } from './errors';

const NOT_FOUND = new Set(['MODULE_NOT_FOUND', 'ERR_MODULE_NOT_FOUND']);

/**
 * Loads a package that an application need not have.
 * @param load calls `require` with the literal name, as bundlers look for that
 * @returns undefined if it, or a package that it needs itself, is not installed
 */
export function loadIfInstalled<T>(load: () => T): T | undefined {
  try {
    return load();
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/**
 * As {@link loadIfInstalled}, where the application's options need the package.
 * @param advice what needs it, and how to do without
 * @throws IdempotencySetupError that names the package, if it is not installed
 */
export function loadNeeded<T>(load: () => T, advice: string): T {
  try {
    return load();
  } catch (cause) {
    if (!isNotFound(cause)) throw cause;
    const [reason = ''] = cause.message.split('\n');
    throw new IdempotencySetupError(`a package is not installed (${reason}). ${advice}`, { cause });
  }
}

/** Not `instanceof`: a test runner's loader may throw errors of another realm. */
function isNotFound(error: unknown): error is Error {
  return types.isNativeError(error) && 'code' in error && NOT_FOUND.has(String(error.code));
}
