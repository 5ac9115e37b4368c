import type { Fault, Faults } from './faults';
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

export interface Evidence {
  readonly executions: readonly Execution[];
  readonly sightings: readonly Sighting[];
  /** Finished records, by each store. */
  readonly redis: readonly Stored[];
  readonly postgres: readonly Stored[];
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
}

/**
 * Judges a run by what handlers wrote down and what clients saw: neither went through a store.
 *
 * A second execution is permitted only under `onOrphan: 'retry'`, where the owner of the one before was killed, frozen
 * or cut off from Postgres in between, or where the handler of the one before failed, so that the key was given back.
 */
export function judge({
  executions,
  sightings,
  redis,
  postgres,
  faults,
  lease,
  forgets = 1_000,
  retention = Infinity,
}: Evidence): Judgement {
  const violations: Violation[] = [];
  const losses: Violation[] = [];
  const report = (promise: string, key: string, detail: unknown): void => {
    violations.push({ promise, key, detail });
  };
  /** That nobody knows an outcome is an answer as well: it needs a fault, and takes no other answer back. */
  const judgeUnknown = (
    key: string,
    unknown: Sighting,
    answers: readonly Sighting[],
    own: readonly Execution[],
  ): void => {
    const owner = own.findLast(({ at }) => at <= unknown.to);
    const known = owner !== undefined && disturbances(owner, unknown.to, faults, lease).length === 0;
    const noFault = owner === undefined && faults.list.every(({ kind }) => kind.startsWith('redis'));
    if (known || noFault)
      report('an outcome is unknown only where its owner broke down', key, { unknown, own });
    const before = answers.filter(({ to }) => to <= unknown.from);
    if (before.length === 0) return;
    const promise = 'an answer is not taken back';
    const detail = { unknown, before, own };
    if (wasLost(own, before, faults, unknown)) losses.push({ promise, key, detail });
    else report(promise, key, detail);
  };
  const runs = groupBy(executions, identity);
  const seen = groupBy(sightings, (one) => `${one.route} ${one.key}`);

  for (const [key, all] of runs) {
    for (const [i, next] of all.entries()) {
      const before = all[i - 1];
      if (!before) continue;
      if (wasForgotten(before, next, faults, forgets)) {
        losses.push({ promise: 'a handler runs once', key, detail: { before, next } });
        continue;
      }
      if (next.fence <= before.fence) report('fences rise', key, { before, next });
      if (hasFailed(before, next.at) || hasExpired(before, next.at, retention)) continue;
      const excused = mayHaveLostItsLease(before, next.at, faults, lease);
      if (next.scope === 'reject' || !excused || next.attempt <= before.attempt) {
        report('a handler runs once', key, { before, next });
      }
    }
  }

  for (const [key, all] of seen) {
    const answers = all.filter((one) => one.nonce !== undefined);
    const nonces = new Set(answers.map((one) => one.nonce));
    if (retention < Infinity) {
      for (const one of answers) {
        const newer = runs.get(key)?.filter(({ at, nonce }) => nonce !== one.nonce && at < one.from) ?? [];
        const run = runs.get(key)?.find(({ nonce }) => nonce === one.nonce);
        if (run && newer.some(({ at }) => at > run.at))
          report('an expired answer does not come back', key, one);
      }
    } else if (nonces.size > 1) {
      const promise = 'every answer is the same';
      const detail = { answers, executions: runs.get(key) };
      if (wasLost(runs.get(key) ?? [], answers, faults)) losses.push({ promise, key, detail });
      else report(promise, key, detail);
    }
    const executed = new Set(runs.get(key)?.filter((one) => !one.failed).map((one) => one.nonce)); // prettier-ignore
    for (const one of answers) {
      if (!executed.has(one.nonce!)) report('an answer implies an execution', key, one);
    }
    const damaged = all.filter(
      ({ status = 0, nonce }) => status >= 200 && status < 300 && nonce === undefined,
    );
    const bodies = new Set(answers.map(({ nonce, body }) => `${nonce} ${body}`));
    if (damaged.length > 0 || bodies.size > nonces.size) report('an answer is whole', key, all);
    const unknown = all.find(({ problem }) => problem === 'outcome-unknown');
    if (unknown) judgeUnknown(key, unknown, answers, runs.get(key) ?? []);
    for (const one of all) if (one.overdue) report('no request outlives its deadline', key, one);
  }

  const recorded = new Map(postgres.map((one) => [one.key, one]));
  for (const one of redis) {
    const row = recorded.get(one.key);
    if (!row && retention < Infinity) continue; // expired while it was read
    if (row?.fence !== one.fence || row.nonce !== one.nonce) {
      report('Redis agrees with Postgres', one.key, { redis: one, postgres: row });
    }
  }
  return { violations, losses };
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
  if (hit.some(({ kind }) => kind === 'killed' || kind === 'shut down')) return true;
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
  return !faults.between(instance, from, to).some(({ kind }) => kind === 'frozen' || kind === 'killed' || kind === 'shut down'); // prettier-ignore
}

function identity({ scope, key }: Execution): string {
  return `${scope} ${key}`;
}

function groupBy<T>(all: readonly T[], keyOf: (one: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const one of all) {
    const group = groups.get(keyOf(one));
    if (group) group.push(one);
    else groups.set(keyOf(one), [one]);
  }
  return groups;
}
