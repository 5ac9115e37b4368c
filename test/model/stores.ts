import type { Configuration } from './configuration';
import { expect } from './properties';
import { RANK, type Copy, type Operator, type Row, type State, type Statement } from './state';

export type Reply =
  | { readonly done: true; readonly fence: number; readonly attempt: number; readonly token: number }
  | { readonly done: false; readonly row: Readonly<Row> | null };

/** Runs an operation in Postgres: lib/store/postgres/schema/statements.ts, as PostgresStore composes them. */
export function execute(s: State, c: Configuration, statement: Statement): Reply {
  switch (statement.verb) {
    case 'claim':
      return claim(s, c, statement);
    case 'complete':
      return complete(s, c, statement);
    case 'release':
      return release(s, c, statement);
    case 'renew':
      return renew(s, c, statement);
  }
}

const refused = (s: State): Reply => ({ done: false, row: s.row && !s.row.expired ? { ...s.row } : null });
const done = ({ token, fence, attempt }: { token: number; fence: number; attempt: number }): Reply => ({
  done: true,
  token,
  fence,
  attempt,
});

/** Whether this claim would win now, so that it needs a token. */
export function wins(s: State, c: Configuration, { token, takeOver, fingerprint }: Statement): boolean {
  const { row } = s;
  if (!row || row.expired) return true;
  if (row.outcome || row.fingerprint !== fingerprint) return false;
  if (row.token === token) return c.mutant !== 'own token refused';
  if (!takeOver) return false;
  const blind = c.mutant === 'lease by application clock' || c.mutant === 'takeover without compare-and-set';
  return row.lapsed || blind;
}

/** claimOrRead, reclaimExpired, takeOver; renew where the row is its own (PostgresStore.claim). */
function claim(s: State, c: Configuration, statement: Statement): Reply {
  if (!wins(s, c, statement)) return refused(s);
  const { row } = s;
  const { token, fingerprint } = statement;
  if (row?.token === token && !row.outcome) {
    row.lapsed = false;
    return done(row);
  }
  const fence = Math.max(++s.sequence, (row?.fence ?? 0) + 1);
  const attempt = row && !row.expired ? row.attempt + 1 : 1;
  expect(fence > s.lastFence, 'fences rise');
  s.lastFence = fence;
  s.row = { token, fence, attempt, fingerprint, outcome: 0, lapsed: false, expired: false };
  return done(s.row);
}

const isClaim = (row: Row | null, { token, fence }: Statement): boolean =>
  row?.token === token && row.fence === fence && !row.outcome;

/** complete, deleteExpired, insertCompleted (PostgresStore.complete). */
function complete(s: State, c: Configuration, statement: Statement): Reply {
  const { token, fence, fingerprint, attempt, outcome } = statement;
  const { row } = s;
  if (row && (isClaim(row, statement) || c.mutant === 'unfenced completion')) {
    Object.assign(row, { outcome, lapsed: false, expired: false });
    return done(statement);
  }
  const landedBefore = row?.token === token && row.fence === fence;
  if (row && !row.expired) return landedBefore ? done(statement) : refused(s);
  if (fence <= s.forgottenUpTo) {
    s.row = null;
    return refused(s);
  }
  s.row = { token, fence, attempt, fingerprint, outcome, lapsed: false, expired: false };
  return done(statement);
}

/** release; abandon where the fence is not known. */
function release(s: State, c: Configuration, statement: Statement): Reply {
  const { row } = s;
  if (row?.token !== statement.token || row.outcome) return refused(s);
  if (statement.fence && row.fence !== statement.fence) return refused(s);
  if (!statement.fence && row.attempt > 1 && c.mutant !== 'abandon deletes the orphan') {
    row.lapsed = true;
    return done(row);
  }
  s.row = null;
  return done(row);
}

function renew(s: State, _: Configuration, statement: Statement): Reply {
  if (!s.row || !isClaim(s.row, statement)) return refused(s);
  Object.assign(s.row, { lapsed: false, expired: false });
  return done(s.row);
}

/** PostgresStore.forget: false if the record has changed, or its lease is alive. */
export function forget(s: State, c: Configuration, { token, fence }: Operator): boolean {
  const { row } = s;
  if (row?.token !== token || row.fence !== fence || (!row.outcome && !row.lapsed)) return false;
  s.row = null;
  if (c.mutant !== 'forgotten without a mark in Postgres') s.forgottenUpTo = fence;
  return true;
}

/** The script PUT (lib/store/redis/scripts.ts). True if what was written stands. */
export function put(s: State, c: Configuration, copy: Copy): boolean {
  const old = s.redis;
  if (old && c.mutant !== 'Redis write without rank') {
    if (old.fence > copy.fence) return false;
    if (old.fence === copy.fence && old.rank >= copy.rank) {
      return old.rank === copy.rank || old.rank < RANK.removed;
    }
  }
  // The deadline of a pending outcome is the end of its lease: after that, another request may own the key.
  const lateForLease = copy.rank === RANK.pending && (s.row?.token !== copy.token || s.row.lapsed);
  if (lateForLease && c.mutant !== 'pending outcome written after its lease') return false;
  s.redis = copy;
  return true;
}

/** Redis holds an outcome that Postgres does not have. */
export function vouches(s: State): boolean {
  return s.redis?.rank === RANK.pending && s.row?.outcome !== s.redis.outcome;
}
