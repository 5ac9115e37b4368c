import { Logger } from '@nestjs/common';
import type { IdempotencyModuleOptions } from './idempotency.options';

/** Environment variable that turns the Postgres tier off at start, for a rollback without a deploy of code. */
const DISABLE_POSTGRES = 'DISABLE_DB_IDEMPOTENCY_FALLBACK';

/** Applies the environment's switches to the options. */
export function withSwitches(
  options: IdempotencyModuleOptions,
  environment: Readonly<Record<string, string | undefined>>,
): IdempotencyModuleOptions {
  if (environment[DISABLE_POSTGRES]?.toLowerCase() !== 'true' || options.postgres === false) return options;
  new Logger('Idempotency').warn(
    `${DISABLE_POSTGRES}=true: Postgres is not used. Redis alone decides, so a handler can run twice after Redis ` +
      'restarts, fails over or evicts keys, keys older than the Redis ttl are new again, and while Redis is down new ' +
      'keys are refused.',
  );
  return { ...options, postgres: false };
}
