import { literal, milliseconds } from './sql';

/** Rows of the table that are not records begin so, in place of a scope. */
const PREFIX = 'nestjs-idempotency: ';

/** Which secret the records of a namespace are made with. */
export const NAMESPACE_MARK = `${PREFIX}mark of a namespace, no record`;

/** When marks expire that never do. Rows are found by it fast, as the table has an index on it. */
const NEVER = `timestamptz '9999-12-31 00:00:00Z'`;

/** Whether more than one namespace has its records in the table. */
export const isShared = (table: string): string => `
  (SELECT count(*) > 1 FROM (
    SELECT FROM ${table} WHERE expires_at = ${NEVER} AND scope = ${literal(NAMESPACE_MARK)} LIMIT 2
  ) AS namespace)`;

const CLEANUP_MARK = `${PREFIX}mark of the last cleanup, no record`;

/** Holds for rows that are records. */
export const IS_RECORD = `scope NOT LIKE '${PREFIX}%'`;

const CLEANUP_ID = `sha256('nestjs-idempotency cleanup'::bytea)`;

/** Notes that a pass of the cleanup has ended. */
export const markCleanup = (table: string): string => `
  INSERT INTO ${table} AS mark (id, fingerprint, token, fence, attempt, state, status, tombstone, created_at,
    completed_at, expires_at, scope, key)
  SELECT ${CLEANUP_ID}, ${CLEANUP_ID}, gen_random_uuid(), 1, 1, 'completed', 200, 'unstorable', now(), now(),
    ${NEVER}, ${literal(CLEANUP_MARK)}, ''
  ON CONFLICT (id) DO UPDATE SET completed_at = now()`;

/** Seconds since the last pass of the cleanup; no row if there was none. */
export const lastCleanup = (table: string): string => `
  SELECT extract(epoch FROM now() - completed_at)::float8 AS age FROM ${table} WHERE id = ${CLEANUP_ID}`;

/** Where the mark of a forgotten record is. It says nothing of the record, whose id cannot be told from it. */
const forgottenId = (id: string): string => `sha256('nestjs-idempotency forgotten'::bytea || ${id})`;

/** Holds if the record was forgotten that this claim, or a later one, had made. */
export const isForgotten = (table: string, id: string, fence: string): string =>
  `EXISTS (SELECT FROM ${table} WHERE id = ${forgottenId(id)} AND fence >= ${fence} AND expires_at > now())`;

/** Where it is marked that an orphan was told. */
const toldId = (id: string): string => `sha256('nestjs-idempotency orphan'::bytea || ${id})`;

/** Holds if a process has told the orphan that this claim has left. */
export const isTold = (table: string, id: string, fence: string): string =>
  `EXISTS (SELECT FROM ${table} AS told WHERE told.id = ${toldId(id)} AND told.fence >= ${fence})`;

/**
 * Of the claims that `orphan` names, marks those that no process has told yet, and returns the ids of their marks as `told`.
 * A mark is of one claim: one that is taken over and lost as well is told again. It expires with its record.
 */
export const markTold = (table: string): string => `
    INSERT INTO ${table} AS mark (id, fingerprint, token, fence, attempt, state, status, tombstone, created_at,
      completed_at, expires_at, scope, key)
    SELECT ${toldId('id')}, ${toldId('id')}, gen_random_uuid(), fence, 1, 'completed', 200, 'unstorable', now(), now(),
      expires_at, '${PREFIX}mark of an orphan that was told, no record', ''
    FROM orphan
    WHERE NOT ${isTold(table, 'orphan.id', 'orphan.fence')}
    ON CONFLICT (id) DO UPDATE SET fence = excluded.fence, expires_at = excluded.expires_at
      WHERE mark.fence < excluded.fence
    RETURNING id AS told
  `;

/** Holds for the orphan that a mark is of. */
export const isMarkedTold = (id: string, told: string): string => `${told} = ${toldId(id)}`;

/**
 * Marks the records that `deleted` names as forgotten, for `retention`: an outcome that waits in a process, because
 * the reply to its completion was lost, would otherwise bring its record back.
 */
export const markForgotten = (table: string, retention: string): string => `
    INSERT INTO ${table} AS mark (id, fingerprint, token, fence, attempt, state, status, tombstone, created_at,
      completed_at, expires_at, scope, key)
    SELECT ${forgottenId('id')}, ${forgottenId('id')}, gen_random_uuid(), fence, 1, 'completed', 200, 'unstorable',
      now(), now(), now() + ${milliseconds(retention)}, '${PREFIX}mark of a forgotten record, no record', ''
    FROM deleted
    ON CONFLICT (id) DO UPDATE SET fence = greatest(mark.fence, excluded.fence), expires_at = excluded.expires_at
  `;
