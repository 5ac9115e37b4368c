import type { Durability } from '../../../core/policy';
import { isForgotten, markForgotten } from './marks';
import { BATCHED_BODY, NO_RECORD, RECORD } from './reads';
import { commits, literal, milliseconds } from './sql';

export { read, readMany } from './reads';

/** A row in progress never expires before its lease. */
const expiry = (retention: string, lease: string): string =>
  `now() + greatest(${milliseconds(retention)}, ${milliseconds(lease)})`;

/** Locks the rows of unfinished claims that `item` names, except those that another transaction has locked. */
const heldForUpdate = (table: string, lock: string): string => `
    SELECT record.id
    FROM ${table} AS record
    JOIN item ON record.id = item.id AND record.token = item.token AND record.fence = item.fence
    WHERE record.state = 'in_progress'
    ORDER BY record.id
    ${lock} OF record SKIP LOCKED
  `;

/** Drawn from the table's sequence, and above the fence before it even if a restore has set the sequence back. */
const nextFence = (table: string): string =>
  `greatest(nextval(pg_get_serial_sequence(${literal(table)}, 'fence')), fence + 1)`;

/**
 * Claims an absent key, or reads the record that stands in the way.
 *
 * It looks before it inserts, so that a replay draws no fence, locks no row and writes no WAL. DO NOTHING, because
 * DO UPDATE would lock and write on every replay. There is no row at all if another claim was committed after this
 * statement's snapshot was taken: then it has to be sent again. Of a claim that was made, only its fence is returned,
 * as \`claimed\`: the rest is known.
 *
 * Parameters: id, token, fingerprint, lease, retention, scope, key.
 */
export const claimOrRead = (table: string, durability: Durability): string => `
  WITH standing AS MATERIALIZED (
    SELECT ${RECORD} FROM ${table} WHERE id = $1::bytea
  ), claimed AS (
    INSERT INTO ${table} (id, token, fingerprint, state, attempt, lease_until, created_at, expires_at, scope, key)
    SELECT $1::bytea, $2::uuid, $3::bytea, 'in_progress', 1, now() + ${milliseconds('$4')}, now(),
      ${expiry('$5', '$4')}, $6::text, $7::text
    WHERE NOT EXISTS (SELECT FROM standing) AND ${commits(durability)}
    ON CONFLICT (id) DO NOTHING
    RETURNING fence AS claimed
  )
  SELECT NULL AS claimed, * FROM standing UNION ALL SELECT claimed, ${NO_RECORD} FROM claimed`;

/**
 * {@link claimOrRead} for many keys, each at most once. The order of the ids is the order in which rows are inserted,
 * so that two of these cannot deadlock where each waits for the other's insert. What stands is JSON, as columns cost pg.
 *
 * Parameters: ids, tokens, fingerprints, leases, scopes, keys, retention.
 */
export const claimMany = (table: string, durability: Durability): string => `
  WITH standing AS MATERIALIZED (
    SELECT id FROM ${table} WHERE id = ANY ($1::bytea[])
  ), claimed AS (
    INSERT INTO ${table} (id, token, fingerprint, state, attempt, lease_until, created_at, expires_at, scope, key)
    SELECT item.id, item.token, item.fingerprint, 'in_progress', 1, now() + ${milliseconds('item.lease')}, now(),
      ${expiry('$7', 'item.lease')}, item.scope, item.key
    FROM unnest($1::bytea[], $2::uuid[], $3::bytea[], $4::float8[], $5::text[], $6::text[])
      AS item (id, token, fingerprint, lease, scope, key)
    WHERE NOT EXISTS (SELECT FROM standing WHERE standing.id = item.id) AND ${commits(durability)}
    ORDER BY item.id
    ON CONFLICT (id) DO NOTHING
    RETURNING id, fence AS claimed
  )
  SELECT encode(id, 'hex') AS id, NULL AS claimed, (SELECT to_json(record) FROM (SELECT ${RECORD}) AS record) AS record
  FROM ${table}
  WHERE EXISTS (SELECT FROM standing) AND id = ANY ($1::bytea[])
    AND coalesce(octet_length(body), 0) <= ${BATCHED_BODY}
  UNION ALL
  SELECT encode(id, 'hex'), claimed, NULL FROM claimed`;

/**
 * Claims the key of an expired record anew, as if it were absent. Compare-and-set on the token and fence that were
 * seen, so that one of several does.
 *
 * Parameters: id, token, fingerprint, lease, retention, seen token, seen fence.
 */
export const reclaimExpired = (table: string, durability: Durability): string => `
  UPDATE ${table} SET
    token = $2::uuid, fingerprint = $3::bytea, fence = ${nextFence(table)}, attempt = 1, state = 'in_progress',
    lease_until = now() + ${milliseconds('$4')}, created_at = now(), expires_at = ${expiry('$5', '$4')},
    completed_at = NULL, status = NULL, tombstone = NULL, headers = NULL, body = NULL
  WHERE id = $1::bytea AND token = $6::uuid AND fence = $7::bigint AND expires_at <= now() AND ${commits(durability)}
  RETURNING fence, attempt`;

/**
 * Takes over a claim whose lease has lapsed. Compare-and-set on the token and fence that were seen, and on the
 * lease, which its owner may have renewed since.
 *
 * Parameters: id, token, fingerprint, lease, retention, seen token, seen fence.
 */
export const takeOver = (table: string, durability: Durability): string => `
  UPDATE ${table} SET
    token = $2::uuid, fence = ${nextFence(table)}, attempt = attempt + 1,
    lease_until = now() + ${milliseconds('$4')}, expires_at = ${expiry('$5', '$4')}
  WHERE id = $1::bytea AND token = $6::uuid AND fence = $7::bigint AND fingerprint = $3::bytea
    AND state = 'in_progress' AND lease_until <= now() AND ${commits(durability)}
  RETURNING fence, attempt`;

/**
 * The row of an unfinished claim, by id, token and fence ($1 to $3). Where it is not waited for, one that another
 * transaction has locked counts as missing: what comes behind in a queue would have to wait as well.
 */
const unfinished = (table: string, waits: boolean, lock: string): string => {
  const claim = `id = $1::bytea AND token = $2::uuid AND fence = $3::bigint AND state = 'in_progress'`;
  return waits ? claim : `id = (SELECT id FROM ${table} WHERE ${claim} ${lock} SKIP LOCKED)`;
};

/**
 * Records the outcome of a claim that still stands. Its lease does not matter: as long as no other took the claim
 * over, its owner's outcome is the one that counts.
 *
 * Parameters: id, token, fence, retention, status, tombstone, headers, body.
 */
export const complete = (table: string, { waits }: { waits: boolean }): string => `
  UPDATE ${table} SET
    state = 'completed', lease_until = NULL, completed_at = now(), expires_at = now() + ${milliseconds('$4')},
    status = $5::smallint, tombstone = $6::text, headers = $7::json, body = $8::bytea
  WHERE ${unfinished(table, waits, 'FOR NO KEY UPDATE')} AND ${commits('durable')}
  RETURNING true AS recorded`;

/**
 * A commit that changes nothing, and waits for the synchronous standby as every commit does: when it is confirmed, so
 * is all that was read before. What stands in a row may not be: a statement that is cancelled while it waits for the
 * standby is committed here anyway, and reading it waits for nothing.
 */
export const confirm = (): string => `
  SELECT pg_logical_emit_message(true, 'idempotency', '') WHERE ${commits('durable')}`;

/**
 * {@link complete} for many claims of different keys. Rows that another transaction has locked are passed over: one
 * that stays locked would hold up all of them, and two of these could deadlock.
 *
 * Parameters: ids, tokens, fences, statuses, tombstones, headers, where each body starts, its length, all bodies in
 * one, retention.
 */
export const completeMany = (table: string): string => `
  WITH item AS (
    SELECT * FROM unnest($1::bytea[], $2::uuid[], $3::bigint[], $4::smallint[], $5::text[], $6::text[],
      $7::integer[], $8::integer[]) AS item (id, token, fence, status, tombstone, headers, start, length)
  ), held AS (${heldForUpdate(table, 'FOR NO KEY UPDATE')})
  UPDATE ${table} AS record SET
    state = 'completed', lease_until = NULL, completed_at = now(), expires_at = now() + ${milliseconds('$10')},
    status = item.status, tombstone = item.tombstone, headers = item.headers::json,
    body = CASE WHEN item.length IS NOT NULL THEN substring($9::bytea FROM item.start FOR item.length) END
  FROM held JOIN item ON item.id = held.id
  WHERE record.id = held.id AND ${commits('durable')}
  RETURNING encode(record.id, 'hex') AS id`;

/**
 * Records an outcome where the store has lost its claim, under that claim's token and fence. False if an operator has
 * deleted the record; no row if another one stands meanwhile.
 *
 * Parameters: id, token, fence, retention, status, tombstone, headers, body, fingerprint, attempt, scope, key.
 */
export const insertCompleted = (table: string): string => `
  WITH forgotten AS MATERIALIZED (
    SELECT WHERE ${isForgotten(table, '$1::bytea', '$3::bigint')}
  ), inserted AS (
    INSERT INTO ${table} (id, token, fence, state, created_at, completed_at, expires_at, status, tombstone, headers,
      body, fingerprint, attempt, scope, key)
    SELECT $1::bytea, $2::uuid, $3::bigint, 'completed', now(), now(), now() + ${milliseconds('$4')}, $5::smallint,
      $6::text, $7::json, $8::bytea, $9::bytea, $10::integer, $11::text, $12::text
    WHERE NOT EXISTS (SELECT FROM forgotten) AND ${commits('durable')}
    ON CONFLICT (id) DO NOTHING
    RETURNING true AS recorded
  )
  SELECT recorded FROM inserted UNION ALL SELECT false FROM forgotten`;

/** Makes room for {@link insertCompleted}, where an expired record of another claim stands. Parameters: id. */
export const deleteExpired = (table: string): string => `
  DELETE FROM ${table} WHERE id = $1::bytea AND expires_at <= now()`;

/** Gives an unfinished claim back. Parameters: id, token, fence. */
export const release = (table: string, { waits }: { waits: boolean }): string => `
  DELETE FROM ${table}
  WHERE ${unfinished(table, waits, 'FOR UPDATE')} AND ${commits('durable')}
  RETURNING true AS released`;

/** {@link release} for many claims of different keys, as {@link completeMany}. Parameters: ids, tokens, fences. */
export const releaseMany = (table: string): string => `
  WITH item AS (
    SELECT * FROM unnest($1::bytea[], $2::uuid[], $3::bigint[]) AS item (id, token, fence)
  ), held AS (${heldForUpdate(table, 'FOR UPDATE')})
  DELETE FROM ${table} AS record USING held
  WHERE record.id = held.id AND ${commits('durable')}
  RETURNING encode(record.id, 'hex') AS id`;

/**
 * Gives a claim back whose reply was lost: its fence is not known, its token alone names it, and no handler ran under
 * it. Where it took an orphan over, that one's handler may have run, so it is left an orphan.
 *
 * Parameters: id, token.
 */
export const abandon = (table: string): string => `
  WITH orphaned AS (
    UPDATE ${table} SET lease_until = now()
    WHERE id = $1::bytea AND token = $2::uuid AND state = 'in_progress' AND attempt > 1 AND ${commits('durable')}
    RETURNING true AS released
  ), deleted AS (
    DELETE FROM ${table}
    WHERE id = $1::bytea AND token = $2::uuid AND state = 'in_progress' AND attempt = 1 AND ${commits('durable')}
    RETURNING true AS released
  )
  SELECT * FROM orphaned UNION ALL SELECT * FROM deleted`;

/**
 * Locks the rows of claims in the order of their ids, so that two such statements cannot deadlock.
 *
 * Parameters: ids, tokens, fences.
 */
const rowsOfClaims = (table: string, condition: string, lock: 'UPDATE' | 'NO KEY UPDATE'): string => `
    SELECT record.id
    FROM ${table} AS record
    JOIN unnest($1::bytea[], $2::uuid[], $3::bigint[]) AS claim (id, token, fence)
      ON record.id = claim.id AND record.token = claim.token AND record.fence = claim.fence
    WHERE ${condition}
    ORDER BY record.id
    FOR ${lock} OF record
  `;

/**
 * Extends the leases of many claims at once. The rows are locked only as strongly as an update does. expires_at moves
 * only where it must: it is indexed, and a renewal that leaves it alone writes to no index.
 *
 * Parameters: ids, tokens, fences, lease.
 */
export const renew = (table: string): string => `
  WITH held AS (${rowsOfClaims(table, `record.state = 'in_progress'`, 'NO KEY UPDATE')})
  UPDATE ${table} AS record SET
    lease_until = now() + ${milliseconds('$4')},
    expires_at = greatest(record.expires_at, now() + ${milliseconds('$4')})
  FROM held
  WHERE record.id = held.id AND ${commits('durable')}
  RETURNING record.token`;

const NO_LIVING_LEASE = 'record.lease_until IS NULL OR record.lease_until <= now()';

/**
 * Deletes the records of claims, except those whose lease is alive, and marks them as forgotten.
 *
 * Parameters: ids, tokens, fences, for how long (ms) the marks stay.
 */
export const forget = (table: string): string => `
  WITH held AS (${rowsOfClaims(table, NO_LIVING_LEASE, 'UPDATE')}), deleted AS (
    DELETE FROM ${table} AS record USING held
    WHERE record.id = held.id AND ${commits('durable')}
    RETURNING record.id, record.fence, record.token, record.expires_at > now() AS existed
  ), marked AS (${markForgotten(table, '$4')})
  SELECT token, existed FROM deleted`;

/** Of these claims, those whose records were forgotten. Parameters: ids, tokens, fences. */
export const areForgotten = (table: string): string => `
  SELECT claim.token FROM unnest($1::bytea[], $2::uuid[], $3::bigint[]) AS claim (id, token, fence)
  WHERE ${isForgotten(table, 'claim.id', 'claim.fence')}`;

/** Class of the cleanup's advisory lock: "idem" in ASCII, so that it can be recognised in pg_locks. */
const CLEANUP_LOCK = 0x6964656d;

/**
 * Deletes a batch of expired rows, unless another instance is doing so at this moment: then the answer is null.
 * The lock belongs to the statement's own transaction, so nothing is left in the session; the table's oid keeps two
 * tables of one database apart. SKIP LOCKED: a row that is being claimed anew is left alone.
 *
 * Parameters: batch size.
 */
export const cleanUp = (table: string): string => `
  WITH turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(
      (${CLEANUP_LOCK}::bigint << 32) | ${literal(table)}::regclass::oid::bigint) AS mine
  ), expired AS MATERIALIZED (
    SELECT id FROM ${table}
    WHERE (SELECT mine FROM turn) AND expires_at <= now() AND (lease_until IS NULL OR lease_until <= now())
    ORDER BY expires_at
    LIMIT $1::integer
    FOR UPDATE SKIP LOCKED
  ), deleted AS (
    DELETE FROM ${table} AS record USING expired WHERE record.id = expired.id RETURNING 1
  )
  SELECT CASE WHEN mine THEN (SELECT count(*)::integer FROM deleted) END AS deleted FROM turn`;
