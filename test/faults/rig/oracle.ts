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
      if (before.failed || hasExpired(before, next.at, retention)) continue;
      const excuses = excusesOf(before, next, faults, lease);
      if (next.scope === 'reject' || excuses.length === 0 || next.attempt <= before.attempt) {
        report('a handler runs once', key, { before, next, excuses });
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

/** What may have cost the first execution its lease before the second one began. */
function excusesOf(before: Execution, next: Execution, faults: Faults, lease: number): Fault[] {
  return faults
    .between(before.instance, before.at - lease, next.at)
    .filter((fault) => !fault.kind.startsWith('redis'));
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
