import type { EntityMetadata } from 'typeorm';
import type { Durability } from '../../options/idempotency.options';

/** Where TypeORM has the table, so that a `schema` of the DataSource is followed. */
export type TableLocation = Pick<EntityMetadata, 'schema' | 'tableName'>;

/** The table's name, quoted and with its schema. */
export function tablePath({ schema, tableName }: TableLocation): string {
  return path(schema, tableName);
}

/** The cleanup function's name, quoted and with its schema. */
export function cleanupFunctionPath({ schema }: TableLocation): string {
  return path(schema, 'cleanup_idempotency_cache');
}

function path(schema: string | undefined, name: string): string {
  const quoted = (each: string): string => `"${each.replaceAll('"', '""')}"`;
  return schema ? `${quoted(schema)}.${quoted(name)}` : quoted(name);
}

/** What the store reads of a row. Times are left to Postgres' clock: only what remains of them comes back, in ms. */
const RECORD = `
  state, fence, attempt, token, encode(fingerprint, 'hex') AS fingerprint, status, tombstone, headers, body,
  expires_at <= now() AND (state = 'completed' OR lease_until <= now()) AS expired,
  extract(epoch FROM lease_until - now())::float8 * 1000 AS lease_remaining,
  extract(epoch FROM expires_at - now())::float8 * 1000 AS expires_in`;

function after(milliseconds: string): string {
  return `now() + ${milliseconds}::float8 * interval '1 millisecond'`;
}

/** One that commits without a flush. It stands in the statement itself, so that poolers in transaction mode will do. */
function unflushed(durability: Durability): string {
  return durability === 'fast' ? `(SELECT set_config('synchronous_commit', 'off', true)) AS unflushed` : '';
}

/** By its owner's default, the column's sequence lies beside the table. */
function nextFence(table: string): string {
  return `nextval(pg_get_serial_sequence('${table.replaceAll("'", "''")}', 'fence'))`;
}

/**
 * Claims an absent key, or reads the row that stands. id, token, fingerprint, lease, retention, scope, key
 *
 * DO NOTHING, not DO UPDATE … WHERE false: that would lock the row and flush a commit on every replay (measured 405 µs
 * and 99 bytes of WAL against 117 µs and 4). The standing row comes from the statement's snapshot: if it was committed
 * after that, there is no row at all, and the caller asks again.
 */
export function claimOrRead(table: string, durability: Durability): string {
  const from = unflushed(durability);
  return `
    WITH inserted AS (
      INSERT INTO ${table} (id, token, fingerprint, lease_until, expires_at, scope, key, state)
      SELECT $1, $2::uuid, $3, ${after('$4')}, ${after('greatest($4, $5)')}, $6, $7, 'in_progress' ${from && `FROM ${from}`}
      ON CONFLICT (id) DO NOTHING
      RETURNING *
    )
    SELECT true AS claimed, ${RECORD} FROM inserted
    UNION ALL
    SELECT false, ${RECORD} FROM ${table} WHERE id = $1`;
}

/** id */
export function read(table: string): string {
  return `SELECT ${RECORD} FROM ${table} WHERE id = $1`;
}

/** Compare-and-set on the lapsed claim that was seen. id, token, fingerprint, lease, retention, seen token, seen fence */
export function takeOver(table: string, durability: Durability): string {
  return reassign(
    table,
    durability,
    `attempt = attempt + 1`,
    `state = 'in_progress' AND lease_until <= now() AND fingerprint = $3`,
  );
}

/** Compare-and-set on the expired record that was seen. id, token, fingerprint, lease, retention, seen token, seen fence */
export function reclaimExpired(table: string, durability: Durability): string {
  const anew = `
    attempt = 1, fingerprint = $3, state = 'in_progress', created_at = now(),
    completed_at = NULL, status = NULL, tombstone = NULL, headers = NULL, body = NULL`;
  return reassign(
    table,
    durability,
    anew,
    `expires_at <= now() AND (state = 'completed' OR lease_until <= now())`,
  );
}

function reassign(table: string, durability: Durability, set: string, where: string): string {
  const from = unflushed(durability);
  return `
    UPDATE ${table} SET
      token = $2::uuid, fence = ${nextFence(table)}, lease_until = ${after('$4')}, expires_at = ${after('greatest($4, $5)')}, ${set}
    ${from && `FROM ${from}`}
    WHERE id = $1 AND token = $6::uuid AND fence = $7 AND ${where}
    RETURNING fence, attempt`;
}

/**
 * id, token, fence, retention, status, tombstone, headers, body
 *
 * The lease is not asked: a lapsed claim that nobody took over still names the one handler that ran. `expires_at` keeps
 * its value unless the handler outlived half of it, so that the update leaves its index alone (HOT).
 */
export function complete(table: string): string {
  return `
    UPDATE ${table} SET
      state = 'completed', completed_at = now(), status = $5, tombstone = $6, headers = $7, body = $8,
      expires_at = greatest(expires_at, ${after('$4 / 2')})
    WHERE id = $1 AND token = $2::uuid AND fence = $3 AND state = 'in_progress'
    RETURNING true`;
}

/** For a record that is gone. As `complete`, then fingerprint, attempt, scope, key */
export function insertCompleted(table: string): string {
  return `
    INSERT INTO ${table} (
      id, token, fence, expires_at, status, tombstone, headers, body, fingerprint, attempt, scope, key,
      state, completed_at, lease_until)
    VALUES ($1, $2::uuid, $3, ${after('$4')}, $5, $6, $7, $8, $9, $10, $11, $12, 'completed', now(), now())
    ON CONFLICT (id) DO NOTHING
    RETURNING true`;
}

/** id */
export function deleteExpired(table: string): string {
  return `DELETE FROM ${table} WHERE id = $1 AND expires_at <= now() AND (state = 'completed' OR lease_until <= now())`;
}

/** id, token, fence */
export function release(table: string): string {
  return `
    DELETE FROM ${table} WHERE id = $1 AND token = $2::uuid AND fence = $3 AND state = 'in_progress'
    RETURNING true`;
}

/**
 * A claim whose reply was lost, so that its fence is not known and no handler ran under it. If it took an orphan over,
 * that one's handler may have run: it is left an orphan. id, token
 */
export function abandon(table: string): string {
  const claim = `id = $1 AND token = $2::uuid AND state = 'in_progress'`;
  return `
    WITH orphaned AS (
      UPDATE ${table} SET lease_until = now() WHERE ${claim} AND attempt > 1 RETURNING true
    ), deleted AS (
      DELETE FROM ${table} WHERE ${claim} AND attempt = 1 RETURNING true
    )
    SELECT * FROM orphaned UNION ALL SELECT * FROM deleted`;
}

/** All claims of a process in one statement, locked in one order so that no two deadlock. ids, tokens, fences, lease */
export function renew(table: string): string {
  return `
    WITH claims AS (
      SELECT * FROM unnest($1::bytea[], $2::uuid[], $3::bigint[]) AS claims (id, token, fence)
    ), standing AS (
      SELECT id FROM ${table} AS record JOIN claims USING (id, token, fence)
      WHERE state = 'in_progress'
      ORDER BY id
      FOR UPDATE OF record
    )
    UPDATE ${table} AS record SET
      lease_until = ${after('$4')}, expires_at = greatest(expires_at, ${after('$4')})
    FROM standing WHERE record.id = standing.id
    RETURNING record.token`;
}

/** id, token, fence */
export function forget(table: string): string {
  return `
    DELETE FROM ${table} WHERE id = $1 AND token = $2::uuid AND fence = $3 AND (state = 'completed' OR lease_until <= now())
    RETURNING expires_at > now() AS existed`;
}

/**
 * batch size. The lock lasts as long as this statement, so a process that dies holds nothing up; null without it.
 */
export function cleanUp(table: string, cleanupFunction: string): string {
  return `
    SELECT CASE WHEN pg_try_advisory_xact_lock(hashtext('${table.replaceAll("'", "''")} cleanup'))
      THEN ${cleanupFunction}($1) END AS deleted`;
}
