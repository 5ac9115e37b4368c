import type { Effect } from './effect';
import type { Faults } from './faults';
import type { Execution } from './ledger';
import { groupBy } from './groups';
import type { Sighting, Stored } from './oracle';

/** What the rules about effects are held against. */
interface Evidence {
  readonly executions: readonly Execution[];
  readonly sightings: readonly Sighting[];
  /** Finished records. */
  readonly postgres: readonly Stored[];
  readonly effects: readonly Row[];
  readonly faults: Faults;
  readonly retention?: number;
}

/** A row that a handler has left. */
export type Row = Omit<Effect, 'id'>;

export interface EffectCounts {
  /** Keys that were answered by an execution in a transaction. */
  readonly keys: number;
  /** Rows of these keys. */
  readonly effects: number;
  /** Rows beyond one for each key. */
  readonly doubled: number;
  /** Keys whose answer has no row. */
  readonly lost: number;
}

type Report = (promise: string, key: string, detail: unknown) => void;

/**
 * Judges the rows that handlers left. Of a handler that ran in a transaction there is exactly one where it was
 * answered, and none otherwise, however often it was begun. One that ran under a lease commits its row alone, so
 * there is one for each execution at most: that those do not double is what the rules about executions say.
 */
export function judgeEffects(report: Report, evidence: Evidence): EffectCounts {
  const { executions, effects, postgres, retention = Infinity } = evidence;
  const runs = new Map(executions.map((one) => [one.nonce, one]));
  const recorded = new Set(postgres.map(({ nonce }) => nonce));
  const rows = new Map<string, Row>();
  for (const row of effects) {
    const run = runs.get(row.nonce);
    if (!run) report('an effect implies an execution', keyOf(row), row);
    if (rows.has(row.nonce)) report('an execution leaves its effect once', keyOf(row), row);
    if (run?.transactional && !recorded.has(row.nonce) && retention === Infinity)
      report('an effect is committed with its record', keyOf(row), row);
    rows.set(row.nonce, row);
  }
  for (const { nonce = '' } of postgres) {
    const run = runs.get(nonce);
    if (run?.transactional && leaves(run) && !rows.has(nonce))
      report('a record is committed with its effect', keyOf(run), run);
  }
  const seen = groupBy(evidence.sightings, ({ route, key }) => keyOf({ scope: route, key }));
  const begun = groupBy(executions, keyOf);
  for (const [key, sightings] of seen) {
    for (const one of sightings) {
      const run = toldToBeRolledBack(one, begun.get(key) ?? [], sightings);
      if (run && rows.has(run.nonce)) report('what is told to be rolled back is not there', key, one);
    }
  }
  return judgeKeys(report, evidence, { runs, rows, seen, left: groupBy(effects, keyOf) });
}

/** By what a client was told: nothing of its request is left. */
const ROLLED_BACK = new Set(['store-unavailable', 'transaction-conflict', 'transaction-timeout']);

/** The execution of this key in a transaction that the client was told of, where it can have been no other. */
function toldToBeRolledBack(
  seen: Sighting,
  executions: readonly Execution[],
  sightings: readonly Sighting[],
): Execution | undefined {
  if (!seen.problem || !ROLLED_BACK.has(seen.problem)) return undefined;
  const { instance, from, to } = seen;
  const alike = sightings.filter((one) => one.instance === instance && one.from <= to && one.to >= from);
  const [run, ...more] = executions.filter(
    (one) => one.instance === instance && one.at >= from && one.at <= to,
  );
  return run?.transactional && alike.length === 1 && more.length === 0 ? run : undefined;
}

/** The evidence, by nonce and by key. */
interface Index {
  readonly runs: ReadonlyMap<string, Execution>;
  readonly rows: ReadonlyMap<string, Row>;
  readonly seen: ReadonlyMap<string, readonly Sighting[]>;
  readonly left: ReadonlyMap<string, readonly Row[]>;
}

function judgeKeys(
  report: Report,
  { executions, faults }: Evidence,
  { runs, rows, seen, left }: Index,
): EffectCounts {
  const counts = { keys: 0, effects: 0, doubled: 0, lost: 0 };
  const keys = new Set(executions.filter(({ transactional }) => transactional).map(keyOf));
  for (const key of keys) {
    const own = left.get(key) ?? [];
    const answers = (seen.get(key) ?? []).filter((one) => one.nonce !== undefined);
    const answered = new Set(answers.map(({ nonce = '' }) => nonce));
    const broken = own.filter(({ nonce }) => isOfBrokenOwner(runs.get(nonce), faults));
    if (own.length > 1 + broken.length) report('an effect happens once', key, own);
    for (const row of own) {
      if (runs.get(row.nonce)?.transactional && !answered.has(row.nonce))
        report('an effect is answered', key, row);
    }
    const inTransaction = answers.find(({ nonce = '' }) => runs.get(nonce)?.transactional);
    if (!inTransaction) continue;
    const { nonce = '' } = inTransaction;
    const lost = leaves(runs.get(nonce)) && !rows.has(nonce);
    if (lost) report('an answer has its effect', key, inTransaction);
    counts.keys++;
    counts.effects += own.length;
    counts.doubled += Math.max(0, own.length - 1);
    counts.lost += lost ? 1 : 0;
  }
  return counts;
}

/** README's limit of leases: a process that ends, or loses its lease, leaves an effect without a record. */
function isOfBrokenOwner(run: Execution | undefined, faults: Faults): boolean {
  if (!run || run.transactional) return false;
  return faults.between(run.instance, run.at, Infinity).some(({ kind }) => !kind.startsWith('redis'));
}

function leaves(run: Execution | undefined): boolean {
  return run?.effect !== 'none';
}

function keyOf({ scope, key }: { readonly scope: string; readonly key: string }): string {
  return `${scope} ${key}`;
}
