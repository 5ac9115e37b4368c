import type { Isolation } from '../core/policy';
import { commits, literal, milliseconds } from '../store/postgres/schema/sql';

/** With their schemas, as the handler may change the search_path. */
export interface Places {
  readonly table: string;
  readonly sequence: string;
}

/** Parameters: table. */
export const PLACES = `
  SELECT quote_ident(nspname) || '.' || quote_ident(relname) AS "table", pg_get_serial_sequence($1, 'fence') AS sequence
  FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = to_regclass($1)`;

export const begin = (isolation: Isolation | undefined): string =>
  isolation ? `BEGIN ISOLATION LEVEL ${isolation}` : 'BEGIN';

export const COMMIT = 'COMMIT';
export const ROLLBACK = 'ROLLBACK';

/**
 * Not null if the lock of the key could be had. It is held until the transaction ends, and so is the second lock. Only a
 * transaction that has the first one asks for the second, so it waits at most for a statement of {@link ARE_FREE}.
 *
 * Parameters: lock, second lock.
 */
export const TRY_LOCK = `
  SELECT CASE WHEN pg_try_advisory_xact_lock($1::bigint) THEN pg_advisory_xact_lock($2::bigint)::text END`;

/**
 * Ends the session of an application that has vanished without a word, and with it the lock of its key: TCP alone would
 * find that out after hours. A bound of the application's own is left alone.
 */
const bound = (name: string, milliseconds: string): string =>
  `CASE current_setting('${name}') WHEN '0' THEN set_config('${name}', ${milliseconds}, true) END`;

/** Tells this transaction from one that the handler has begun in its place. */
const START = 'extract(epoch FROM now())';

/** An outcome that may be forgotten. A claim without one may still get it, so it is taken over by another claim. */
const IS_EXPIRED = `expires_at <= now() AND state = 'completed'`;

/**
 * What stands for a key, if anything does, with what the transaction needs to know of itself: its start, its role, its
 * session, and the fence of its claim where the key is free. As a separate statement its snapshot is taken when the lock is held: one that
 * does both could get the lock and yet miss the row.
 *
 * Parameters: id, timeout of the handler, milliseconds after which a statement would have been cut off by its application.
 */
export const read = ({ table, sequence }: Places): string => `
  SELECT ${START}::text, current_setting('role'), pg_backend_pid()::text, record.token::text, record.state,
    CASE WHEN coalesce(record.state = 'expired', true) THEN greatest(nextval(${literal(sequence)}), record.fence + 1) END::text,
    ${bound('idle_in_transaction_session_timeout', '$2')}, ${bound('statement_timeout', '$3')}
  FROM (SELECT) AS one
    LEFT JOIN (
      SELECT token, fence, CASE WHEN ${IS_EXPIRED} THEN 'expired' ELSE state END AS state
      FROM ${table} WHERE id = $1::bytea
    ) AS record ON true`;

/** Makes room for {@link insertCompleted}. If another claim has come instead, it stays. Parameters: id. */
export const deleteExpired = ({ table }: Places): string => `
  DELETE FROM ${table} WHERE id = $1::bytea AND ${IS_EXPIRED}`;

/** The handler may have taken another role, to which the table is closed. Parameters: role. */
export const SET_ROLE = `SELECT set_config('role', $1, true)`;

/** Whether the handler has written anything: looked at before the outcome is. */
const BEFORE = `before AS MATERIALIZED (SELECT pg_current_xact_id_if_assigned() IS NOT NULL AS wrote)`;

/** Fails unless this is still the transaction that began at $1. */
const ours = (value: string): string => `CASE WHEN ${START} = $1::numeric THEN ${value} END`;

/**
 * The finished record of a free key. An error, such as that of another record which was committed meanwhile, has to skip
 * the COMMIT behind it, so there is no ON CONFLICT. The statement's own time, as now() is that of the transaction's start.
 *
 * Parameters: start, id, token, fence, retention, status, tombstone, headers, body, fingerprint, scope, key.
 */
export const insertCompleted = ({ table }: Places): string => `
  WITH ${BEFORE}
  INSERT INTO ${table} (id, token, fence, state, attempt, created_at, completed_at, expires_at, status, tombstone,
    headers, body, fingerprint, scope, key)
  SELECT $2::bytea, ${ours('$3::uuid')}, $4::bigint, 'completed', 1, now(), clock_timestamp(),
    clock_timestamp() + ${milliseconds('$5')}, $6::smallint, $7::text, $8::json, $9::bytea, $10::bytea, $11::text, $12::text
  FROM before WHERE ${commits('durable')}
  RETURNING (SELECT wrote FROM before)::text`;

/**
 * Completes a claim that was committed before. Divides by zero if it does not stand any more.
 *
 * Parameters: start, id, token, fence, retention, status, tombstone, headers, body.
 */
export const completeClaim = ({ table }: Places): string => `
  WITH ${BEFORE}, changed AS (
    UPDATE ${table} SET
      token = ${ours('token')}, state = 'completed', lease_until = NULL, completed_at = clock_timestamp(),
      expires_at = clock_timestamp() + ${milliseconds('$5')},
      status = $6::smallint, tombstone = $7::text, headers = $8::json, body = $9::bytea
    WHERE id = $2::bytea AND token = $3::uuid AND fence = $4::bigint AND state = 'in_progress' AND ${commits('durable')}
    RETURNING true
  )
  SELECT wrote::text, 1 / (SELECT count(*) FROM changed) FROM before`;

/**
 * Whether no transaction holds each of these second locks. They are shared for as long as that takes, so that two of these
 * do not find each other. Not read from pg_locks: that stops all that lock while it copies every lock of the server.
 *
 * Parameters: locks.
 */
export const ARE_FREE = `
  SELECT pg_try_advisory_xact_lock_shared(lock) AS free
  FROM unnest($1::bigint[]) WITH ORDINALITY AS item (lock, place) ORDER BY place`;
