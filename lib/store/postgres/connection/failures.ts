import { IdempotencySetupError } from '../../../core/errors';

/**
 * What a failed statement means:
 * - `transient`: another transaction was in the way; the statement had no effect and may be sent again
 * - `connection`: this connection is of no more use; whether the statement took effect is unknown
 * - `unprepared`: the session does not have the prepared statement that was asked for, or has it already: another one
 *   than it was prepared in, as poolers in transaction mode lend them; the statement had no effect
 * - `unavailable`: Postgres answered that it cannot serve us now
 * - `setup`: the table is missing, is not the one we know, or is closed to us
 * - `refused`: Postgres understood and said no, or the error is not its own; sending it again would not help
 */
export type Failure = 'transient' | 'connection' | 'unprepared' | 'unavailable' | 'setup' | 'refused';

/** A statement, or the wait for a connection, took longer than it may. */
export class DeadlineError extends Error {
  constructor(what: string, timeout: number) {
    super(`${what} took longer than ${timeout} ms`);
    this.name = 'DeadlineError';
  }
}

const TRANSIENT = new Set([
  '40001', // serialization failure, where the database's default isolation is above READ COMMITTED
  '40P01', // deadlock
]);

const CONNECTION = new Set([
  '57P01', // admin shutdown
  '57P02', // crash shutdown
  '57P03', // cannot connect now
  '57P04', // database dropped
  '57P05', // idle session timeout
  '25P03', // idle-in-transaction timeout
  '25P04', // transaction timeout
  '25006', // read-only: a standby since a failover; a new connection may find the new primary
]);

const UNPREPARED = new Set([
  '26000', // invalid SQL statement name
  '42P05', // duplicate prepared statement
]);

const UNAVAILABLE = new Set([
  '57014', // cancelled, for example by the role's statement_timeout
  '55P03', // lock not available, by the role's lock_timeout
]);

const SETUP = new Set([
  '42P01', // undefined table
  '42703', // undefined column
  '42883', // undefined function
  '42P10', // no primary key to conflict with
  '3F000', // undefined schema
  '42501', // insufficient privilege
]);

/** Tells the meaning of an error that a statement on an open connection was rejected with. */
export function failureOf(error: unknown): Failure {
  const state = sqlState(error);
  if (state === undefined) return isProgrammingError(error) ? 'refused' : 'connection';
  if (TRANSIENT.has(state)) return 'transient';
  if (CONNECTION.has(state) || state.startsWith('08') || isOutdatedPlan(error)) return 'connection';
  if (UNPREPARED.has(state)) return 'unprepared';
  // 53: out of connections, memory or disk; 58: errors of the system below Postgres
  if (UNAVAILABLE.has(state) || state.startsWith('53') || state.startsWith('58')) return 'unavailable';
  if (SETUP.has(state)) return 'setup';
  return 'refused';
}

/**
 * The table was changed so that what this connection has prepared gives columns of another type. The state (0A000) stands
 * for much else, and the message is in the server's language.
 */
function isOutdatedPlan(error: unknown): boolean {
  return error instanceof Error && 'routine' in error && error.routine === 'RevalidateCachedQuery';
}

/** Says what to do about a failure of kind `setup`. */
export function setupError(cause: unknown): IdempotencySetupError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const remedy =
    sqlState(cause) === '42501'
      ? 'Grant the rights that the head of migrations/015_idempotency_cache.sql lists to the role of the DataSource, and let no row level security hide rows from it.'
      : 'Run node_modules/nestjs-idempotency/migrations/015_idempotency_cache.sql or the migration class of this package again, for the schema and prefix of the DataSource; the next start of the application says how.';
  return new IdempotencySetupError(`Postgres says "${reason}". ${remedy}`, { cause });
}

/** The SQLSTATE of an error that Postgres itself sent; those of Node and of the driver have none. */
export function sqlState(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('severity' in error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

function isProgrammingError(error: unknown): boolean {
  return error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError;
}
