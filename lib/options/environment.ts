import { Logger } from '@nestjs/common';
import { suggestionsFor } from './suggestions';
import { InvalidOptionsError } from './validate';

/** Environment variable that turns the Postgres tier off at start, for a rollback without a deploy of code. */
const DISABLE_POSTGRES = 'DISABLE_DB_IDEMPOTENCY_FALLBACK';

const ON = new Set(['true', '1', 'yes', 'on']);
const OFF = new Set(['', 'false', '0', 'no', 'off']);

export type Environment = Readonly<Record<string, string | undefined>>;

interface Stores {
  readonly store?: unknown;
  readonly postgres?: unknown;
}

/**
 * Applies the environment's switches to options that are valid.
 * @throws InvalidOptionsError for a value that says neither on nor off, and for a variable that is misspelt
 */
export function withEnvironment<O extends Stores>(options: O, environment: Environment): O & Stores {
  assertSpelling(DISABLE_POSTGRES, environment);
  if (!isOn(DISABLE_POSTGRES, environment) || options.postgres === false || options.store !== undefined)
    return options;
  new Logger('Idempotency').warn(
    `${DISABLE_POSTGRES}=true: Postgres is not used. Redis alone decides, so a handler can run twice after Redis ` +
      'restarts, fails over or evicts keys, keys older than the Redis ttl are new again, and while Redis is down new ' +
      'keys are refused.',
  );
  return { ...options, postgres: false };
}

/** A switch that is misspelt must not be ignored: it is set in an emergency. */
function assertSpelling(name: string, environment: Environment): void {
  const misspelt = Object.keys(environment).find((each) => {
    // Windows has one variable for all cases.
    if (each === name || (environment[name] !== undefined && each.toUpperCase() === name)) return false;
    return suggestionsFor(each, [name]).length > 0;
  });
  if (misspelt === undefined) return;
  throw new InvalidOptionsError('The environment', [
    `variable ${misspelt} is unknown (did you mean ${name}?): correct its name, or remove it`,
  ]);
}

/** Likewise its value. */
function isOn(name: string, environment: Environment): boolean {
  const value = environment[name] ?? '';
  const said = value.trim().toLowerCase();
  if (ON.has(said)) return true;
  if (OFF.has(said)) return false;
  throw new InvalidOptionsError('The environment', [
    `variable ${name} is '${value}', expected true, 1, yes or on, or false, 0, no, off or nothing`,
  ]);
}
