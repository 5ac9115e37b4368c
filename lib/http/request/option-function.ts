import { HttpException, type ExecutionContext } from '@nestjs/common';
import { isIdempotencyError } from '../../core/errors';
import { SafeLogger } from '../../observability/safe-logger';
import { routeName } from '../platform';

const logger = new SafeLogger('Idempotency');

/**
 * Runs an option's function for a request. What it throws goes on to the application's filters as it is. Unless that is
 * an answer to the sender, it is an error of the application, so the log names the route and the option.
 */
export async function runOption<T>(
  option: 'key' | 'scope' | 'fingerprint',
  context: ExecutionContext,
  run: () => Promise<T>,
): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof HttpException) && !isIdempotencyError(error))
      logger.error(`The \`${option}\` option of ${routeName(context)} failed`, error);
    throw error;
  }
}

/** What was given in place of text. Its value may be a secret, so it is not told. */
export function typeName(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return 'an array';
  return /^[aeiou]/.test(typeof value) ? `an ${typeof value}` : `a ${typeof value}`;
}
