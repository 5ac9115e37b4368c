import type { ModuleRef } from '@nestjs/core';
import type { DataSource } from 'typeorm';
import { IdempotencySetupError } from '../../core/errors';
import { loadNeeded } from '../../core/optional-package';
import type { PostgresSettings } from '../../options/resolve';
import { applicationPool, type ApplicationPool } from './connection/pool';
import { assertUsable } from './schema/setup';
import { configuredPlace, PLAIN_PLACE, type TablePlace } from './schema/table-name';

/** How the application reaches Postgres, and what it calls the table there. */
export interface PostgresSource {
  readonly pool: ApplicationPool;
  readonly place: TablePlace;
  /** Undefined where the application brings a pool. */
  readonly dataSource: DataSource | undefined;
}

/** @throws IdempotencySetupError if there is no such DataSource, or it is not of Postgres */
export function postgresSource(
  { pool, dataSource: name }: PostgresSettings,
  moduleRef: ModuleRef,
): PostgresSource {
  if (pool) return { pool: pool as unknown as ApplicationPool, place: PLAIN_PLACE, dataSource: undefined };
  const dataSource = applicationDataSource(name, moduleRef);
  assertUsable(dataSource);
  return { pool: applicationPool(dataSource), place: configuredPlace(dataSource), dataSource };
}

/**
 * @param name undefined for the default one
 * @throws IdempotencySetupError if there is none
 */
export function applicationDataSource(name: string | undefined, moduleRef: ModuleRef): DataSource {
  const { getDataSourceToken } = loadNeeded(
    () => require('@nestjs/typeorm') as typeof import('@nestjs/typeorm'),
    'Postgres is reached by a DataSource of @nestjs/typeorm: run `npm install @nestjs/typeorm typeorm pg`, pass a ' +
      'pool of pg with `postgres: { pool }`, or, with fewer guarantees, run on Redis alone with `postgres: false`.',
  );
  try {
    return moduleRef.get<DataSource>(getDataSourceToken(name), { strict: false });
  } catch (cause) {
    const which = name ? `DataSource named "${name}"` : 'default DataSource';
    throw new IdempotencySetupError(
      `there is no ${which}. Import TypeOrmModule.forRoot() of @nestjs/typeorm, name another with ` +
        '`postgres: { dataSource }`, pass a pool of pg with `postgres: { pool }`, or, with fewer guarantees, run on ' +
        'Redis alone with `postgres: false`.',
      { cause },
    );
  }
}
