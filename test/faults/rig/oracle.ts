import { judgeEffects, type EffectCounts, type Row } from './effect-rules';
import { endsProcess, type Fault, type Faults } from './faults';
import { groupBy } from './groups';
import type { Execution } from './ledger';
import { wasForgotten, wasLost } from './losses';

/** What one client saw of one request. */
export interface Sighting {
  readonly route: string;
  readonly key: string;
  readonly instance: string;
  readonly from: number;
  readonly to: number;
  /** Undefined: no answer, so the client knows nothing. */
  readonly status: number | undefined;
  /** Of a 2xx. */
  readonly nonce: string | undefined;
  /** Of another answer that a handler gave. */
  readonly refused?: string | undefined;
  /** A digest of the whole body of a 2xx. */
  readonly body?: string | undefined;
  /** The code of a problem, such as `in_flight`. */
  readonly problem: string | undefined;
  /** The client gave up, though nothing was done to its instance. */
  readonly overdue: boolean;
}

/** A record as a store holds it, read behind the module's back. */
export interface Stored {
  readonly key: string;
  readonly fence: number;
  readonly nonce: string | undefined;
}

/** A record that an operator had deleted. */
export interface Forgetting {
  /** What the operator was told: that it is deleted, or nothing, so that it may be. */
  readonly told: 'deleted' | 'nothing';
  readonly route: string;
  readonly key: string;
  readonly from: number;
  readonly to: number;
}

export interface Evidence {
  readonly executions: readonly Execution[];
  readonly sightings: readonly Sighting[];
  /** Finished records, by each store. */
  readonly redis: readonly Stored[];
  readonly postgres: readonly Stored[];
  /** The rows that handlers left. */
  readonly effects: readonly Row[];
  /** @default none */
  readonly forgettings?: readonly Forgetting[];
  readonly faults: Faults;
  /** Milliseconds of a lease. */
  readonly lease: number;
  /** Milliseconds before a crash of Postgres in which a claim under `durability: 'fast'` may be forgotten. @default 1000 */
  readonly forgets?: number;
  /** Milliseconds after which a finished record expires, and its key may run again. @default never */
  readonly retention?: number;
}

export interface Violation {
  readonly promise: string;
  readonly key: string;
  readonly detail: unknown;
}

export interface Judgement {
  readonly violations: readonly Violation[];
  /** What was lost as README says that it can be. */
  readonly losses: readonly Violation[];
  readonly effects: EffectCounts;
}

/**
 * Judges a run by what handlers wrote down and what clients saw: neither went through a store.
 *
 * A second execution is permitted only under `onOrphan: 'retry'`, where the owner of the one before was killed, frozen
 * or cut off from Postgres in between, or where the handler of the one before failed, so that the key was given back.
 * One that ran in a transaction may be followed by another wherever a fault may have rolled it back: what counts is
 * its row (`effect-rules.ts`).
 */
export function judge(whole: Evidence): Judgement {
  const verdict = new Verdict();
  judgeForgotten(verdict, whole);
  const evidence = withoutForgotten(whole);
  const runs = groupBy(evidence.executions, ({ scope, key }) => `${scope} ${key}`);
  const seen = groupBy(evidence.sightings, ({ route, key }) => `${route} ${key}`);
  for (const [key, own] of runs) judgeExecutions(verdict, key, own, evidence);
  for (const [key, all] of seen) judgeAnswers(verdict, key, all, runs.get(key) ?? [], evidence);
  judgeStores(verdict, evidence);
  const effects = judgeEffects((...broken) => verdict.report(...broken), evidence);
  const { violations, losses } = verdict;
  return { violations, losses, effects };
}

class Verdict {
  readonly violations: Violation[] = [];
  readonly losses: Violation[] = [];

  /** @param lost as README says that it can be */
  report(promise: string, key: string, detail: unknown, lost = false): void {
    (lost ? this.losses : this.violations).push({ promise, key, detail });
  }
}

function judgeExecutions(verdict: Verdict, key: string, own: readonly Execution[], evidence: Evidence): void {
  const { faults, lease, forgets = 1_000, retention = Infinity } = evidence;
  const standing = withoutOvertaken(own, evidence);
  for (const [i, next] of standing.entries()) {
    const before = standing[i - 1];
    if (!before) continue;
    const detail = { before, next };
    if (wasForgotten(before, next, faults, forgets)) {
      verdict.report('a handler runs once', key, detail, true);
      continue;
    }
    if (before.transactional) {
      if (!hasFailed(before, next.at) && disturbances(before, next.at, faults, lease).length === 0)
        verdict.report('a handler runs once', key, detail);
      continue;
    }
    if (next.fence <= before.fence) verdict.report('fences rise', key, detail);
    if (hasFailed(before, next.at) || hasExpired(before, next.at, retention)) continue;
    const excused = mayHaveLostItsLease(before, next.at, faults, lease);
    if (next.scope === 'reject' || !excused || next.attempt <= before.attempt) {
      verdict.report('a handler runs once', key, detail);
    }
  }
}

/**
 * Where a route has both modes, as while it is changed from one to the other, a transaction may begin while a claim is on
 * its way to Postgres. It finds the key claimed at its end, and is rolled back: nothing of it stands.
 */
function withoutOvertaken(own: readonly Execution[], { effects }: Evidence): readonly Execution[] {
  if (!own.some(({ transactional }) => !transactional)) return own;
  const rows = new Set(effects.map(({ nonce }) => nonce));
  return own.filter(({ transactional, nonce }) => !transactional || rows.has(nonce));
}

function judgeAnswers(
  verdict: Verdict,
  key: string,
  all: readonly Sighting[],
  own: readonly Execution[],
  evidence: Evidence,
): void {
  const { faults, retention = Infinity } = evidence;
  const answers = all.filter((one) => one.nonce !== undefined);
  const nonces = new Set(answers.map((one) => one.nonce));
  if (retention < Infinity) {
    for (const one of answers) {
      const run = own.find(({ nonce }) => nonce === one.nonce);
      const newer = own.some(({ at, nonce }) => nonce !== one.nonce && at < one.from && run && at > run.at);
      if (newer) verdict.report('an expired answer does not come back', key, one);
    }
  } else if (nonces.size > 1) {
    const lost = wasLost(own, answers, faults);
    verdict.report('every answer is the same', key, { answers, executions: own }, lost);
  }

  const executed = new Set(own.filter(({ failed }) => !failed).map(({ nonce }) => nonce));
  for (const one of answers) {
    if (!executed.has(one.nonce!)) verdict.report('an answer implies an execution', key, one);
  }
  const damaged = all.some(({ status = 0, nonce }) => status >= 200 && status < 300 && nonce === undefined);
  const bodies = new Set(answers.map(({ nonce, body }) => `${nonce} ${body}`));
  if (damaged || bodies.size > nonces.size) verdict.report('an answer is whole', key, all);

  const unknown = all.find(({ problem }) => problem === 'outcome-unknown');
  if (unknown) judgeUnknown(verdict, key, unknown, answers, own, evidence);
  for (const one of all) if (one.overdue) verdict.report('no request outlives its deadline', key, one);
}

/** That an outcome is unknown is an answer as well: it needs a fault, and takes no other answer back. */
function judgeUnknown(
  verdict: Verdict,
  key: string,
  unknown: Sighting,
  answers: readonly Sighting[],
  own: readonly Execution[],
  { faults, lease }: Evidence,
): void {
  const owner = own.findLast(({ at }) => at <= unknown.to);
  const disturbed = owner
    ? disturbances(owner, unknown.to, faults, lease).length > 0
    : faults.list.some(({ kind }) => !kind.startsWith('redis'));
  if (!disturbed)
    verdict.report('an outcome is unknown only where its owner broke down', key, { unknown, own });
  const before = answers.filter(({ to }) => to <= unknown.from);
  if (before.length === 0) return;
  const lost = wasLost(own, before, faults, unknown);
  verdict.report('an answer is not taken back', key, { unknown, before, own }, lost);
}

/**
 * A key whose record an operator has deleted may run again, but what it was before does not come back: not to a request
 * that came later, unless it followed one of its process that had come before.
 */
function judgeForgotten(verdict: Verdict, evidence: Evidence): void {
  for (const forgetting of evidence.forgettings ?? []) {
    const { told, route, key, from, to } = forgetting;
    if (told === 'nothing') continue;
    const own = evidence.executions.filter((one) => one.scope === route && one.key === key);
    const before = new Set(own.filter(({ at }) => at < from).map(({ nonce }) => nonce));
    const seen = evidence.sightings.filter((one) => one.route === route && one.key === key);
    for (const one of seen) {
      if (one.from <= to || one.nonce === undefined || !before.has(one.nonce)) continue;
      const followed = seen.some(
        (other) => other.instance === one.instance && other.from <= to && other.to >= one.from,
      );
      if (followed) continue;
      // README's limit: a Redis that loses its marks may take a copy that was on its way.
      const lost = evidence.faults
        .between('*', from, one.to)
        .some(({ kind }) => kind === 'redis emptied' || kind === 'redis killed');
      verdict.report('what is forgotten stays so', `${route} ${key}`, { forgetting, seen: one }, lost);
    }
  }
}

/** What is promised of a key for as long as no operator deletes its record, or may have. */
function withoutForgotten(evidence: Evidence): Evidence {
  const keys = new Set(evidence.forgettings?.map(({ key }) => key));
  const stands = ({ key }: { readonly key: string }): boolean => !keys.has(key);
  const { executions, sightings, effects } = evidence;
  return {
    ...evidence,
    executions: executions.filter(stands),
    sightings: sightings.filter(stands),
    effects: effects.filter(stands),
  };
}

function judgeStores(verdict: Verdict, { redis, postgres, retention = Infinity }: Evidence): void {
  const recorded = new Map(postgres.map((one) => [one.key, one]));
  for (const one of redis) {
    const row = recorded.get(one.key);
    if (!row && retention < Infinity) continue; // expired while it was read
    if (row?.fence !== one.fence || row.nonce !== one.nonce) {
      verdict.report('Redis agrees with Postgres', one.key, { redis: one, postgres: row });
    }
  }
}

/** A record expires so long after its completion, and so no sooner than that after its handler can have ended. */
function hasExpired({ at, takes = 0 }: Execution, now: number, retention: number): boolean {
  return now >= at + takes + retention;
}

/** A handler that fails gives its key back when it has failed, not before. */
function hasFailed({ failed, at, takes = 0 }: Execution, now: number): boolean {
  return failed && now >= at + takes;
}

/** What one statement that gets lost costs an instance at most: the time-out after which it is sent again. */
const LOST_STATEMENT = 1_000;

/**
 * Whether the owner had ended, or could not reach Postgres for as long as it takes between two renewals, from its claim
 * to that time.
 */
function mayHaveLostItsLease(owner: Execution, until: number, faults: Faults, lease: number): boolean {
  const from = owner.at - lease;
  const hit = disturbances(owner, until, faults, lease);
  if (hit.some(endsProcess)) return true;
  const away = hit.map((fault) =>
    fault.to === fault.from ? LOST_STATEMENT : Math.min(fault.to, until) - Math.max(fault.from, from),
  );
  return away.reduce((sum, ms) => sum + ms, 0) >= lease / 3;
}

/** What was done to the owner since its claim; Redis has no part in leases. */
function disturbances(owner: Execution, until: number, faults: Faults, lease: number): Fault[] {
  return faults
    .between(owner.instance, owner.at - lease, until)
    .filter(({ kind }) => !kind.startsWith('redis'));
}

/** Only while its instance is held by a fault may a client wait for longer than the deadline. */
export function isOverdue(faults: Faults, instance: string, from: number, to: number): boolean {
  return !faults.between(instance, from, to).some((fault) => fault.kind === 'frozen' || endsProcess(fault));
}
