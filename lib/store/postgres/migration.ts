import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Makes the schema of `migrations/015_idempotency_cache.sql`, for `migrations: [CreateIdempotencyCache1764000000015]`
 * in the DataSource. Like the SQL file it may meet an existing table. Reverting forgets every recorded response.
 */
export class CreateIdempotencyCache1764000000015 implements MigrationInterface {
  readonly name = 'CreateIdempotencyCache1764000000015';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(SCHEMA);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP FUNCTION IF EXISTS cleanup_idempotency_cache(integer)');
    await runner.query('DROP TABLE IF EXISTS idempotency_cache');
  }
}

const SCHEMA = `
CREATE TABLE IF NOT EXISTS idempotency_cache (
  id bytea NOT NULL,
  fence bigserial NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  lease_until timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  completed_at timestamptz,
  token uuid NOT NULL,
  attempt integer NOT NULL DEFAULT 1,
  status integer,
  state text NOT NULL,
  fingerprint bytea NOT NULL,
  scope text NOT NULL,
  key text NOT NULL,
  tombstone text,
  headers text,
  body bytea,
  CONSTRAINT idempotency_cache_pkey PRIMARY KEY (id),
  CONSTRAINT idempotency_cache_state_check CHECK (state IN ('in_progress', 'completed')),
  CONSTRAINT idempotency_cache_outcome_check CHECK (
    CASE state
      WHEN 'completed' THEN
        status IS NOT NULL AND completed_at IS NOT NULL
        AND (tombstone IS NULL) = (body IS NOT NULL) AND (tombstone IS NULL) = (headers IS NOT NULL)
      ELSE num_nonnulls(status, completed_at, tombstone, headers, body) = 0
    END
  )
);

CREATE INDEX IF NOT EXISTS idempotency_cache_expires_at_idx ON idempotency_cache (expires_at);

COMMENT ON TABLE idempotency_cache IS 'Claims and outcomes of idempotent requests; a row that carries a request''s token lets its handler run';
COMMENT ON COLUMN idempotency_cache.id IS 'SHA-256 of scope and key';
COMMENT ON COLUMN idempotency_cache.fence IS 'Rises with each claim, so that a late writer can be told from the present owner';
COMMENT ON COLUMN idempotency_cache.created_at IS 'When the key was first claimed';
COMMENT ON COLUMN idempotency_cache.lease_until IS 'Until when the claim is held without renewal';
COMMENT ON COLUMN idempotency_cache.expires_at IS 'From when on the row counts as absent and may be deleted';
COMMENT ON COLUMN idempotency_cache.completed_at IS 'When the outcome was recorded';
COMMENT ON COLUMN idempotency_cache.token IS 'UUID of the claim; only its owner may complete, renew or release it';
COMMENT ON COLUMN idempotency_cache.attempt IS '1, and one more each time a lapsed claim was taken over';
COMMENT ON COLUMN idempotency_cache.status IS 'HTTP status of the response';
COMMENT ON COLUMN idempotency_cache.state IS 'in_progress or completed';
COMMENT ON COLUMN idempotency_cache.fingerprint IS 'SHA-256 of the request: another request under the same key is refused';
COMMENT ON COLUMN idempotency_cache.scope IS 'What the key belongs to: method, path and principal, or the name of a job';
COMMENT ON COLUMN idempotency_cache.key IS 'Idempotency key as the client sent it';
COMMENT ON COLUMN idempotency_cache.tombstone IS 'Why the response is not kept: too_large or unstorable';
COMMENT ON COLUMN idempotency_cache.headers IS 'Response headers as a JSON list of names and values, in the order they were sent';
COMMENT ON COLUMN idempotency_cache.body IS 'Response body, byte for byte';

CREATE OR REPLACE FUNCTION cleanup_idempotency_cache(batch_size integer DEFAULT 1000) RETURNS integer
LANGUAGE sql
AS $$
  WITH expired AS (
    SELECT id FROM idempotency_cache
    WHERE expires_at <= now() AND (state = 'completed' OR lease_until <= now())
    ORDER BY expires_at
    LIMIT batch_size
    FOR UPDATE SKIP LOCKED
  ), deleted AS (
    DELETE FROM idempotency_cache USING expired WHERE idempotency_cache.id = expired.id RETURNING 1
  )
  SELECT count(*)::integer FROM deleted
$$;

COMMENT ON FUNCTION cleanup_idempotency_cache(integer) IS 'Deletes up to batch_size expired rows, without waiting for locked ones, and returns how many';
`;
