import { Logger } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { IdempotencySetupError, StoreUnavailableError } from '../../core/errors';
import { IdempotencyCache } from './idempotency-cache.entity';
import type { PostgresConnection } from './postgres.connection';
import { cleanupFunctionPath, tablePath, type TableLocation } from './statements';

/** @throws IdempotencySetupError if this DataSource cannot hold the records */
export function assertUsable(dataSource: DataSource): void {
  if (dataSource.options.type !== 'postgres') {
    throw new IdempotencySetupError(
      `its DataSource has to be of type "postgres", not "${dataSource.options.type}".`,
    );
  }
  if (!dataSource.hasMetadata(IdempotencyCache)) {
    throw new IdempotencySetupError(
      'the DataSource does not know the entity IdempotencyCache. Add it to `entities: [IdempotencyCache]`, or set ' +
        '`autoLoadEntities: true`.',
    );
  }
}

/**
 * Looks for the table and the cleanup function. A Postgres that cannot be reached now is no fault of the set-up: the
 * application starts, and new keys are refused until it answers.
 * @throws IdempotencySetupError
 */
export async function assertMigrated(connection: PostgresConnection, location: TableLocation): Promise<void> {
  const table = tablePath(location);
  const cleanup = `${cleanupFunctionPath(location)}(integer)`;
  let present: { table: boolean; cleanup: boolean } | undefined;
  try {
    [present] = await connection.operation('check')<{ table: boolean; cleanup: boolean }>(
      'SELECT to_regclass($1) IS NOT NULL AS "table", to_regprocedure($2) IS NOT NULL AS cleanup',
      [table, cleanup],
    );
  } catch (error) {
    if (!(error instanceof StoreUnavailableError)) throw error;
    new Logger('Idempotency').warn(`The table could not be checked at start: ${error.message}`);
    return;
  }
  const missing = [
    ...(present?.table ? [] : [`the table ${table}`]),
    ...(present?.cleanup ? [] : [`the function ${cleanup}`]),
  ];
  if (missing.length > 0) {
    throw new IdempotencySetupError(
      `${missing.join(' and ')} is missing in the database. Run \`psql $DATABASE_URL < migrations/015_idempotency_cache.sql\`, ` +
        'or add CreateIdempotencyCache1764000000015 to the `migrations` of the DataSource and run them.',
    );
  }
}
