import { inspect } from 'node:util';
import { InvalidOptionsError } from './validate';
import { IdempotencySetupError } from '../core/errors';
import type { StorePhase } from '../core/store';

/** @throws IdempotencySetupError before the application is initialized, and after it is closed */
export function assertOpen(phase: StorePhase, where = 'IdempotencyService'): void {
  if (phase === 'open') return;
  throw new IdempotencySetupError(
    phase === 'new'
      ? `the application is not initialized: call app.init() or app.listen() before you use ${where}.`
      : `the application is closed: use ${where} before app.close().`,
  );
}

/**
 * What every method of `IdempotencyService` takes. JavaScript, and JSON that an operator's tool parsed, pass by the types.
 * @throws InvalidOptionsError
 */
export function assertArguments(where: string, key: unknown, options: unknown): void {
  if (typeof key !== 'string') throw invalid(where, 'key', key, 'a string');
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw invalid(where, 'options', options, 'an object');
  const { scope } = options as { readonly scope?: unknown };
  if (scope !== undefined && typeof scope !== 'string')
    throw invalid(`${where} options`, 'scope', scope, 'a string');
}

export function invalid(where: string, name: string, value: unknown, expected: string): InvalidOptionsError {
  return new InvalidOptionsError(where, [
    `"${name}" is ${inspect(value, { depth: 0, breakLength: Infinity, compact: true })}, but must be ${expected}`,
  ]);
}
