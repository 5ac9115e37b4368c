import type { DataSource } from 'typeorm';
import { configuredPlace, identifier } from './table-name';

/** What is used of a query runner of TypeORM: the class is there without TypeORM, too. */
export interface MigrationRunner {
  query(text: string): Promise<unknown>;
}

/**
 * Makes the schema of `migrations/015_idempotency_cache.sql`, for `migrations: [CreateIdempotencyCache1764000000015]`
 * in the DataSource: in its `schema`, and under the name that its `entityPrefix` and naming strategy give the table.
 * Like the file it may be run where the table is there already. Reverting it forgets every recorded response.
 */
export class CreateIdempotencyCache1764000000015 {
  /** Also where a bundler shortens the names of classes: TypeORM takes the order from it. */
  readonly name = 'CreateIdempotencyCache1764000000015';

  async up(runner: MigrationRunner): Promise<void> {
    await runner.query(creation(namesIn(runner)));
  }

  async down(runner: MigrationRunner): Promise<void> {
    const { table, cleanup } = namesIn(runner);
    await runner.query(`DROP FUNCTION IF EXISTS ${cleanup}(integer)`);
    await runner.query(`DROP TABLE IF EXISTS ${table}`);
  }
}

/** For use in SQL. Names of indexes are unique in their schema, so they follow the table's. */
interface Names {
  readonly table: string;
  readonly cleanup: string;
  readonly primaryKey: string;
  readonly expiryIndex: string;
  readonly inProgressIndex: string;
}

function namesIn(runner: MigrationRunner): Names {
  // TypeORM 0.3 has the DataSource as `connection` only, and a later one may drop that name.
  const { dataSource, connection } = runner as MigrationRunner & {
    dataSource?: DataSource;
    connection: DataSource;
  };
  const { schema, tableName } = configuredPlace(dataSource ?? connection);
  const inSchema = (name: string): string =>
    (schema ? `"${schema.replaceAll('"', '""')}".` : '') + identifier(name);
  return {
    table: inSchema(tableName),
    cleanup: inSchema(`cleanup_${tableName}`),
    primaryKey: identifier(`${tableName}_pkey`),
    expiryIndex: identifier(`${tableName}_expires_at_idx`),
    inProgressIndex: identifier(`${tableName}_in_progress_idx`),
  };
}

const creation = ({ table, cleanup, primaryKey, expiryIndex, inProgressIndex }: Names): string => `
-- CREATE ... IF NOT EXISTS alone fails when two run it at the same moment.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('idempotency_cache migration')); END $$;

CREATE TABLE IF NOT EXISTS ${table} (
  fence        bigserial   NOT NULL,
  lease_until  timestamptz,
  created_at   timestamptz NOT NULL,
  expires_at   timestamptz NOT NULL,
  completed_at timestamptz,
  attempt      integer     NOT NULL,
  status       smallint,
  token        uuid        NOT NULL,
  id           bytea       NOT NULL,
  fingerprint  bytea       NOT NULL,
  state        text        NOT NULL,
  scope        text        NOT NULL,
  key          text        NOT NULL,
  tombstone    text,
  headers      json,
  body         bytea,
  CONSTRAINT ${primaryKey} PRIMARY KEY (id),
  CONSTRAINT idempotency_cache_hashes_check CHECK (octet_length(id) = 32 AND octet_length(fingerprint) = 32),
  CONSTRAINT idempotency_cache_numbers_check CHECK (fence > 0 AND attempt > 0 AND status BETWEEN 100 AND 999),
  CONSTRAINT idempotency_cache_state_check CHECK (state IN ('in_progress', 'completed')),
  CONSTRAINT idempotency_cache_tombstone_check CHECK (tombstone IN ('too_large', 'unstorable')),
  CONSTRAINT idempotency_cache_headers_check CHECK (json_typeof(headers) = 'array'),
  CONSTRAINT idempotency_cache_in_progress_check CHECK (
    state <> 'in_progress'
    OR (lease_until IS NOT NULL AND expires_at >= lease_until
      AND num_nonnulls(completed_at, status, tombstone, headers, body) = 0)
  ),
  CONSTRAINT idempotency_cache_completed_check CHECK (
    state <> 'completed'
    OR (lease_until IS NULL AND num_nulls(completed_at, status) = 0
      AND num_nonnulls(headers, body) = CASE WHEN tombstone IS NULL THEN 2 ELSE 0 END)
  )
);

CREATE INDEX IF NOT EXISTS ${expiryIndex} ON ${table} (expires_at);

CREATE INDEX IF NOT EXISTS ${inProgressIndex} ON ${table} (expires_at) WHERE state = 'in_progress';

COMMENT ON TABLE ${table} IS 'Claims and outcomes of idempotency keys; the arbiter of who may run a handler (nestjs-idempotency)';
COMMENT ON COLUMN ${table}.fence IS 'Rises strictly with each claim of a key, and tells a late writer from the present owner';
COMMENT ON COLUMN ${table}.lease_until IS 'While in progress: when the claim lapses unless its owner renews it';
COMMENT ON COLUMN ${table}.created_at IS 'When the key was first claimed';
COMMENT ON COLUMN ${table}.expires_at IS 'From then on the row counts as absent, and the cleanup deletes it';
COMMENT ON COLUMN ${table}.completed_at IS 'When the outcome was recorded';
COMMENT ON COLUMN ${table}.attempt IS '1, and one more each time a lapsed claim was taken over';
COMMENT ON COLUMN ${table}.status IS 'HTTP status of the outcome';
COMMENT ON COLUMN ${table}.token IS 'UUID that the claimant chose; only its holder completes, renews or releases the claim';
COMMENT ON COLUMN ${table}.id IS 'SHA-256 of namespace, scope and key; an HMAC where there is a secret';
COMMENT ON COLUMN ${table}.fingerprint IS 'SHA-256 of the request, an HMAC where there is a secret: tells a retry from another request under the same key';
COMMENT ON COLUMN ${table}.state IS 'in_progress or completed';
COMMENT ON COLUMN ${table}.scope IS 'Method, path and principal, for operators; never searched by the module';
COMMENT ON COLUMN ${table}.key IS 'The key as the client sent it, for operators; never searched by the module';
COMMENT ON COLUMN ${table}.tombstone IS 'Why a finished response is not kept: too_large or unstorable';
COMMENT ON COLUMN ${table}.headers IS 'Response headers, [[name, value or list of values], ...], in the order first sent; ["A256GCM", key id] if encrypted';
COMMENT ON COLUMN ${table}.body IS 'Response body, byte for byte; if encrypted, headers and body';

CREATE OR REPLACE FUNCTION ${cleanup}(batch_size integer DEFAULT 1000) RETURNS integer
LANGUAGE sql VOLATILE SET search_path FROM CURRENT
AS $$
  WITH expired AS MATERIALIZED (
    SELECT id FROM ${table}
    WHERE expires_at <= now() AND (lease_until IS NULL OR lease_until <= now())
    ORDER BY expires_at
    LIMIT greatest(batch_size, 0)
    FOR UPDATE SKIP LOCKED
  ), deleted AS (
    DELETE FROM ${table} AS c USING expired WHERE c.id = expired.id
    RETURNING 1
  )
  SELECT count(*)::integer FROM deleted;
$$;

COMMENT ON FUNCTION ${cleanup}(integer) IS 'Deletes at most batch_size expired rows of idempotency_cache and returns how many it deleted';
`;
