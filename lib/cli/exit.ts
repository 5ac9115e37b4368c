import { isIdempotencySetupError, StoreError } from '../core/errors';
import { isInvalidOptionsError } from '../options/validate';

/** Exit codes, as docs/operate/operating.md has them. */
export const EXIT = {
  done: 0,
  /** There was nothing to change, no such record, nothing to purge, or the doctor has found an error. */
  nothing: 1,
  /** Wrong arguments, or no confirmation. */
  usage: 2,
  /** The table, its schema or a right is missing, records are made with another secret, or the Redis is not the application's. */
  setup: 3,
  /** Nothing was done, or part of it: a store was not reached, a signal came, or a purge left what is in flight. Repeat the command. */
  unfinished: 4,
  /** A bug. */
  failed: 70,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The command cannot be run as it was given. */
export class UsageError extends Error {}

export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof UsageError || isInvalidOptionsError(error)) return EXIT.usage;
  if (isIdempotencySetupError(error)) return EXIT.setup;
  if (error instanceof StoreError) return EXIT.unfinished;
  return EXIT.failed;
}
