-- Table of nestjs-idempotency in 16 partitions, by the hash of the key: in place of 015_idempotency_cache.sql, for
-- very large tables. docs/internals/performance.md says from when on it pays.
--
--   psql -v ON_ERROR_STOP=1 "$DATABASE_URL" < migrations/015_idempotency_cache_partitioned.sql
--
-- Postgres 14 or newer. May be run again without harm, and by two at once. Everything happens in one transaction,
-- in the schema that comes first in search_path. It only creates: no other table is read or locked. It is used
-- instead of the TypeORM migration CreateIdempotencyCache1764000000015.
--
-- The application's role needs USAGE on the schema and, unless it owns the table:
--   GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_cache TO app;
--   GRANT USAGE ON SEQUENCE idempotency_cache_fence_seq TO app;
--
-- To roll back, roll back the code and leave the table: nothing else refers to it, and code that does not know it
-- is not affected. It still holds the answers to retries of the last 30 days; without it their handlers run again.
-- Once that is acceptable, with no instance left that uses it (the sequence and the index go with the table):
--   BEGIN;
--   DROP FUNCTION IF EXISTS cleanup_idempotency_cache(integer);
--   DROP TABLE IF EXISTS idempotency_cache;
--   COMMIT;

BEGIN;

-- CREATE ... IF NOT EXISTS alone fails when two run it at the same moment.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('idempotency_cache migration')); END $$;

-- Fixed-width columns come first, so that no bytes are lost to alignment.
CREATE TABLE IF NOT EXISTS idempotency_cache (
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
  CONSTRAINT idempotency_cache_pkey PRIMARY KEY (id),
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
) PARTITION BY HASH (id);

DO $$ BEGIN
  FOR part IN 0..15 LOOP
    EXECUTE format('CREATE TABLE IF NOT EXISTS idempotency_cache_%s PARTITION OF idempotency_cache '
      'FOR VALUES WITH (MODULUS 16, REMAINDER %s)', part, part);
  END LOOP;
END $$;

CREATE INDEX IF NOT EXISTS idempotency_cache_expires_at_idx ON idempotency_cache (expires_at);

-- Claims in progress alone, which are few: orphans are looked for by it. A renewal leaves expires_at alone.
CREATE INDEX IF NOT EXISTS idempotency_cache_in_progress_idx ON idempotency_cache (expires_at) WHERE state = 'in_progress';

COMMENT ON TABLE idempotency_cache IS 'Claims and outcomes of idempotency keys; the arbiter of who may run a handler (nestjs-idempotency)';
COMMENT ON COLUMN idempotency_cache.fence IS 'Rises strictly with each claim of a key, and tells a late writer from the present owner';
COMMENT ON COLUMN idempotency_cache.lease_until IS 'While in progress: when the claim lapses unless its owner renews it';
COMMENT ON COLUMN idempotency_cache.created_at IS 'When the key was first claimed';
COMMENT ON COLUMN idempotency_cache.expires_at IS 'From then on the row counts as absent, and the cleanup deletes it';
COMMENT ON COLUMN idempotency_cache.completed_at IS 'When the outcome was recorded';
COMMENT ON COLUMN idempotency_cache.attempt IS '1, and one more each time a lapsed claim was taken over';
COMMENT ON COLUMN idempotency_cache.status IS 'HTTP status of the outcome';
COMMENT ON COLUMN idempotency_cache.token IS 'UUID that the claimant chose; only its holder completes, renews or releases the claim';
COMMENT ON COLUMN idempotency_cache.id IS 'SHA-256 of namespace, scope and key; an HMAC where there is a secret';
COMMENT ON COLUMN idempotency_cache.fingerprint IS 'SHA-256 of the request, an HMAC where there is a secret: tells a retry from another request under the same key';
COMMENT ON COLUMN idempotency_cache.state IS 'in_progress or completed';
COMMENT ON COLUMN idempotency_cache.scope IS 'Method, path and principal, for operators; never searched by the module';
COMMENT ON COLUMN idempotency_cache.key IS 'The key as the client sent it, for operators; never searched by the module';
COMMENT ON COLUMN idempotency_cache.tombstone IS 'Why a finished response is not kept: too_large or unstorable';
COMMENT ON COLUMN idempotency_cache.headers IS 'Response headers, [[name, value or list of values], ...], in the order first sent; ["A256GCM", key id] if encrypted';
COMMENT ON COLUMN idempotency_cache.body IS 'Response body, byte for byte; if encrypted, headers and body';

-- SKIP LOCKED: a row that is being claimed anew is left alone, and nothing waits. A lease that still runs is
-- checked although no row expires before its lease: deleting one would let a second handler run.
CREATE OR REPLACE FUNCTION cleanup_idempotency_cache(batch_size integer DEFAULT 1000) RETURNS integer
LANGUAGE sql VOLATILE SET search_path FROM CURRENT
AS $$
  WITH expired AS MATERIALIZED (
    SELECT id FROM idempotency_cache
    WHERE expires_at <= now() AND (lease_until IS NULL OR lease_until <= now())
    ORDER BY expires_at
    LIMIT greatest(batch_size, 0)
    FOR UPDATE SKIP LOCKED
  ), deleted AS (
    DELETE FROM idempotency_cache AS c USING expired WHERE c.id = expired.id
    RETURNING 1
  )
  SELECT count(*)::integer FROM deleted;
$$;

COMMENT ON FUNCTION cleanup_idempotency_cache(integer) IS 'Deletes at most batch_size expired rows of idempotency_cache and returns how many it deleted';

COMMIT;
