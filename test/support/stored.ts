import type { RecordId } from '../../lib/core/record';
import { PostgresProvider } from '../../lib/store/postgres/postgres.provider';
import type { TestApp } from './app';

/** Where an application with the default prefix has a record in Redis. */
export function redisKeyOf({ app }: Pick<TestApp, 'app'>, { hash }: RecordId): string {
  return `idempotency:${app.get(PostgresProvider).tableTag ?? 'none'}:${hash}`;
}

/** Glob of the records in Redis, whose last part is a hash, which leaves the marks of namespaces and tables out. */
export const REDIS_RECORDS = 'idempotency:[^m]*:[^m]*';

/** In SQL, what tells a record from the mark of a namespace. */
export const IS_RECORD = `scope NOT LIKE 'nestjs-idempotency: %'`;
