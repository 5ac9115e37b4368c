import type { Digest } from '../../core/digest';
import type { RecordState } from '../../core/record-directory';
import type { Run } from './connection/postgres.connection';
import { inProgressPage, type Position } from './schema/directory-statements';

/** Rows that one statement reads: so few that the process answers requests between two. */
const PAGE = 2_000;

/** A claim whose handler runs, or whose owner is lost. */
export interface ClaimInProgress {
  readonly hash: string;
  readonly scope: string;
  readonly key: string;
  readonly attempt: number;
  /** Seconds since its lease lapsed; below 0 while it is alive. */
  readonly age: number;
}

type Row = ClaimInProgress & {
  /** Microseconds since 1970. */
  readonly expires_at: number;
  /** Whether more than one namespace has records in the table. */
  readonly shared: boolean;
};

export interface ClaimsInProgressOptions {
  readonly table: string;
  readonly digest: Digest;
  /** Of one state alone. */
  readonly state?: Extract<RecordState, 'in_flight' | 'orphaned'>;
  /** Further columns, each behind a comma. */
  readonly more?: string;
}

/**
 * Reads the claims in progress of this application, page by page. Rows say by their ids alone whose they are. In a table
 * that no other namespace uses all are this application's, also those whose scope the column cannot hold.
 *
 * @param run for each statement
 */
export async function* claimsInProgress<More = unknown>(
  run: () => Run,
  { table, digest, state, more }: ClaimsInProgressOptions,
): AsyncGenerator<readonly (ClaimInProgress & More)[]> {
  let after: Position | undefined;
  for (;;) {
    const { text, values } = inProgressPage(table, { state, more }, PAGE, after);
    const rows = await run()<Row & More>(text, values);
    yield rows.filter(({ shared, scope, key, hash }) => !shared || digest.idOf(scope, key) === hash);
    const last = rows.at(-1);
    if (!last || rows.length < PAGE) return;
    after = { expiresAt: last.expires_at, hash: last.hash };
  }
}
