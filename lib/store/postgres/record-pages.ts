import { performance } from 'node:perf_hooks';
import type { Digest } from '../../core/digest';
import type { RecordPage, RecordSelection, RecordState, RecordSummary } from '../../core/record-directory';
import { callerOf, routeOf } from '../../core/scope-parts';
import { InvalidOptionsError } from '../../options/validate';
import type { Run } from './connection/postgres.connection';
import { pageQuery, type Position } from './schema/directory-statements';

/** Rows that one statement reads at most: so few that the process answers requests between two. */
const MOST_ROWS = 2_000;

export interface SummaryRow {
  readonly hash: string;
  readonly scope: string;
  readonly key: string;
  readonly state: RecordState;
  readonly attempt: number;
  readonly status: number | null;
  readonly bytes: number;
  /** Microseconds since 1970, as the others. */
  readonly created_at: number;
  readonly completed_at: number | null;
  readonly lease_until: number | null;
  readonly expires_at: number;
}

export interface PageOptions {
  readonly table: string;
  readonly digest: Digest;
  /** Milliseconds after which it ends, also if it is not full. */
  readonly time: number;
}

/**
 * A page of the records of this application. Rows say by their ids alone whose they are, so those of other namespaces are
 * read as well, more at a time the more of them there are.
 *
 * @param run for each statement
 */
export async function pageOf(
  run: () => Run,
  { table, digest, time }: PageOptions,
  selection: RecordSelection,
  { limit, cursor }: { readonly limit: number; readonly cursor: string | undefined },
): Promise<RecordPage> {
  const records: RecordSummary[] = [];
  const until = performance.now() + time;
  // One more tells whether there is another page.
  let wanted = limit + 1;
  let after = cursor === undefined ? undefined : positionIn(cursor);
  for (;;) {
    const { text, values } = pageQuery(table, selection, wanted, after);
    const rows = await run()<SummaryRow>(text, values);
    for (const row of rows) {
      const isOurs = digest.idOf(row.scope, row.key) === row.hash;
      if (isOurs && records.length === limit) return { records, cursor: after && cursorOf(after) };
      if (isOurs) records.push(summaryOf(row));
      after = positionOf(row);
    }
    if (rows.length < wanted) return { records, cursor: undefined };
    if (performance.now() >= until) return { records, cursor: after && cursorOf(after) };
    wanted = Math.max(wanted, Math.min(2 * wanted, MOST_ROWS));
  }
}

export function summaryOf(row: SummaryRow): RecordSummary {
  const { hash, scope, key, state, attempt, bytes } = row;
  return {
    hash,
    scope,
    route: routeOf(scope),
    principal: callerOf(scope),
    key,
    state,
    attempt,
    status: row.status ?? undefined,
    bytes,
    createdAt: date(row.created_at),
    completedAt: row.completed_at === null ? undefined : date(row.completed_at),
    leaseUntil: row.lease_until === null ? undefined : date(row.lease_until),
    expiresAt: date(row.expires_at),
  };
}

function date(microseconds: number): Date {
  return new Date(microseconds / 1000);
}

function positionOf({ expires_at, hash }: SummaryRow): Position {
  return { expiresAt: expires_at, hash };
}

function cursorOf({ expiresAt, hash }: Position): string {
  return Buffer.from(`${expiresAt} ${hash}`).toString('base64url');
}

function positionIn(cursor: string): Position {
  const [, expiresAt, hash] =
    /^(\d{1,16}) ([0-9a-f]{64})$/.exec(Buffer.from(cursor, 'base64url').toString()) ?? [];
  if (!expiresAt || !hash)
    throw new InvalidOptionsError('IdempotencyAdmin.list', [
      'option "cursor" is not one that a page has returned',
    ]);
  return { expiresAt: Number(expiresAt), hash };
}
