import { CALLER_PATTERN, ROUTE_PATTERN } from '../../../core/scope-parts';
import type { RecordSelection, RecordState } from '../../../core/record-directory';
import { IS_RECORD, isShared } from './marks';
import { literal } from './sql';
import { byteaOf } from './values';

/** The caller within a scope. An optional index is on this very expression. */
export const CALLER = `substring(scope FROM ${literal(CALLER_PATTERN)})`;

const microseconds = (column: string): string => `(extract(epoch FROM ${column}) * 1000000)::bigint`;
const timeOf = (parameter: string): string =>
  `timestamptz 'epoch' + ${parameter}::bigint * interval '1 microsecond'`;

const STATES: Readonly<Record<RecordState, string>> = {
  in_flight: `state = 'in_progress' AND lease_until > now()`,
  orphaned: `state = 'in_progress' AND lease_until <= now()`,
  completed: `state = 'completed' AND tombstone IS NULL`,
  unstorable: `state = 'completed' AND tombstone IS NOT NULL`,
};

/** A record without its response; times in microseconds since 1970. */
const SUMMARY = `
  encode(id, 'hex') AS hash, scope, key, attempt, status,
  CASE WHEN ${STATES.in_flight} THEN 'in_flight' WHEN state = 'in_progress' THEN 'orphaned'
    WHEN tombstone IS NULL THEN 'completed' ELSE 'unstorable' END AS state,
  (coalesce(octet_length(headers::text), 0) + coalesce(octet_length(body), 0))::integer AS bytes,
  ${microseconds('created_at')} AS created_at, ${microseconds('completed_at')} AS completed_at,
  ${microseconds('lease_until')} AS lease_until, ${microseconds('expires_at')} AS expires_at`;

/** Text and values of a statement. */
export interface Query {
  readonly text: string;
  readonly values: unknown[];
}

/** Each condition is there only if it was asked for, so that each combination has its plan. */
function conditions(
  { state, scope, route, principals, key, olderThan }: RecordSelection,
  values: unknown[],
): string {
  const all = [IS_RECORD];
  const add = (condition: (parameter: string) => string, value: unknown): void => {
    all.push(condition(`$${values.push(value)}`));
  };
  if (state) all.push(STATES[state]);
  if (scope !== undefined) add((each) => `scope = ${each}::text`, scope);
  if (route !== undefined) add((each) => `scope ~ ${each}::text`, route);
  if (principals) {
    // The first spares almost all rows the second, which an index may be on.
    add((each) => `scope LIKE ANY (${each}::text[])`, principals.map(endingIn));
    add((each) => `${CALLER} = ANY (${each}::text[])`, principals);
  }
  if (key !== undefined) add((each) => `key = ${each}::text`, key);
  if (olderThan !== undefined)
    add((each) => `created_at <= now() - ${each}::float8 * interval '1 millisecond'`, olderThan);
  return all.join(' AND ');
}

/** A pattern for texts whose last word this is. */
function endingIn(word: string): string {
  return `% ${word.replace(/[\\%_]/g, '\\$&')}`;
}

/** The last record of a page. */
export interface Position {
  /** Microseconds since 1970. */
  readonly expiresAt: number;
  readonly hash: string;
}

/** One page. The index on expires_at gives the order, so a page without rare conditions reads as many rows as it has. */
export function pageQuery(table: string, selection: RecordSelection, limit: number, after?: Position): Query {
  const values: unknown[] = [];
  let where = conditions(selection, values);
  if (after) {
    const at = `$${values.push(after.expiresAt)}`;
    const id = `$${values.push(`\\x${after.hash}`)}`;
    where += ` AND expires_at <= ${timeOf(at)} AND (expires_at < ${timeOf(at)} OR id < ${id}::bytea)`;
  }
  // By the column: its name alone would mean the number that is selected under it, which no index orders.
  const text = `SELECT ${SUMMARY} FROM ${table} AS record WHERE ${where} AND expires_at > now()
    ORDER BY record.expires_at DESC, record.id DESC LIMIT $${values.push(limit)}::integer`;
  return { text, values };
}

/** Parameters: id. */
export const summary = (table: string): string => `
  SELECT ${SUMMARY} FROM ${table} WHERE id = $1::bytea AND expires_at > now() AND ${IS_RECORD}`;

/** The tables that hold rows: the table itself, or its partitions. */
const LEAF = `(
    SELECT oid AS relid FROM pg_class WHERE oid = $1::text::regclass AND relkind = 'r'
    UNION SELECT relid FROM pg_partition_tree($1::text::regclass) WHERE isleaf
  ) AS leaf`;

/** Parameters: the table. */
export const LEAVES = `
  SELECT relid::regclass::text AS name, ${microseconds('now()')} AS now,
    (pg_relation_size(relid) / current_setting('block_size')::integer)::integer AS blocks
  FROM ${LEAF}`;

const CLAIM = `encode(id, 'hex') AS hash, scope, key, token, fence, attempt,
      encode(fingerprint, 'hex') AS fingerprint, state = 'in_progress' AS in_progress,
      (${STATES.in_flight}) IS TRUE AS in_flight`;

/**
 * The selected claims in some blocks of a table, so that a table of any size is read once, in the order in which it lies
 * on disk, by short statements.
 */
export function blocksQuery(
  leaf: string,
  selection: RecordSelection,
  { from, to, until }: { readonly from: number; readonly to: number; readonly until: number },
): Query {
  const values: unknown[] = [`(${from},0)`, `(${to},0)`, until];
  const where = conditions(selection, values);
  const text = `SELECT ${CLAIM} FROM ${leaf}
    WHERE ctid >= $1::tid AND ctid < $2::tid AND created_at <= ${timeOf('$3')} AND ${where}`;
  return { text, values };
}

/** The selected claims in progress, by the partial index. */
export function inProgressQuery(table: string, selection: RecordSelection): Query {
  const values: unknown[] = [];
  const where = conditions(selection, values);
  return { text: `SELECT ${CLAIM} FROM ${table} WHERE state = 'in_progress' AND ${where}`, values };
}

/** What has become of claims, by the primary key. @param hashes of their records */
export function claimsQuery(
  table: string,
  selection: RecordSelection,
  { hashes, until }: { readonly hashes: readonly string[]; readonly until: number },
): Query {
  const values: unknown[] = [hashes.map(byteaOf), until];
  const where = conditions(selection, values);
  const text = `SELECT ${CLAIM} FROM ${table}
    WHERE id = ANY ($1::bytea[]) AND created_at <= ${timeOf('$2')} AND ${where}`;
  return { text, values };
}

/** Whether records of other namespaces are in the table. Parameters: none. */
export const sharing = (table: string): string => `SELECT ${isShared(table)} AS shared`;

/**
 * A page of the claims in progress, by their partial index, for a table where only ids say whose they are.
 * @param more further columns
 */
export function inProgressPage(
  table: string,
  { state, more = '' }: { readonly state?: RecordState; readonly more?: string },
  limit: number,
  after?: Position,
): Query {
  const values: unknown[] = [limit];
  let where = `state = 'in_progress' AND expires_at > now()`;
  if (state) where += ` AND ${STATES[state]}`;
  if (after) where += ` AND ${comesAfter(after, values)}`;
  const text = `SELECT encode(id, 'hex') AS hash, scope, key, attempt,
      extract(epoch FROM now() - lease_until)::float8 AS age, ${microseconds('expires_at')} AS expires_at,
      ${isShared(table)} AS shared${more}
    FROM ${table} AS record WHERE ${where} ORDER BY record.expires_at, record.id LIMIT $1::integer`;
  return { text, values };
}

/** By the index first, as a comparison of pairs would read all that expires before. */
function comesAfter({ expiresAt, hash }: Position, values: unknown[]): string {
  const at = timeOf(`$${values.push(expiresAt)}`);
  const id = `$${values.push(`\\x${hash}`)}`;
  return `expires_at >= ${at} AND (expires_at > ${at} OR id > ${id}::bytea)`;
}

/** Of claims in progress, by the partial index. */
export const inProgressCounts = (table: string): string => `
  SELECT count(*) FILTER (WHERE lease_until > now())::integer AS in_flight,
    count(*) FILTER (WHERE lease_until <= now())::integer AS orphaned,
    extract(epoch FROM now() - min(lease_until) FILTER (WHERE lease_until <= now()))::float8 AS oldest
  FROM ${table} WHERE state = 'in_progress' AND expires_at > now()`;

/** Bytes on disk: of the rows themselves, and of all there is. Parameters: the table. */
export const SIZES = `
  SELECT sum(pg_relation_size(relid))::float8 AS heap, sum(pg_total_relation_size(relid))::float8 AS total
  FROM ${LEAF}`;

/** Parameters: which percentage of the blocks is read; undefined reads all. */
export const completedCounts = (table: string, sampled: boolean): string => `
  SELECT coalesce(substring(scope FROM ${literal(ROUTE_PATTERN)}), '') AS route, tombstone IS NOT NULL AS unstorable,
    count(*)::integer AS rows
  FROM ${table} ${sampled ? 'TABLESAMPLE SYSTEM ($1::real)' : ''}
  WHERE state = 'completed' AND expires_at > now() AND ${IS_RECORD}
  GROUP BY 1, 2`;

/** As {@link completedCounts}, row by row, for a table where only ids say whose they are. */
export const completedIds = (table: string, sampled: boolean): string => `
  SELECT encode(id, 'hex') AS hash, scope, key, tombstone IS NOT NULL AS unstorable
  FROM ${table} ${sampled ? 'TABLESAMPLE SYSTEM ($1::real)' : ''}
  WHERE state = 'completed' AND expires_at > now() AND ${IS_RECORD}`;

/** Seconds for which the oldest expired row has waited; no row if there is none. */
export const oldestExpired = (table: string): string => `
  SELECT extract(epoch FROM now() - expires_at)::float8 AS age FROM ${table}
  WHERE expires_at <= now() ORDER BY expires_at LIMIT 1`;
