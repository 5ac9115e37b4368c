import { DUPLICATES, SMALL, type Workload } from './plan';
import { Figures, spread, type Results } from './results';
import { NODE_IDEMPOTENCY } from './subjects';

export interface Goal {
  readonly goal: string;
  readonly figure: string;
  readonly reached: boolean;
}

/** Held against the results; those that the plan did not measure are left out. */
export function goalsOf(results: Results): readonly Goal[] {
  const figures = (workload: Workload, connections: number, subject: string): Figures | undefined => {
    const cell = results.cells.find(
      (each) => each.workload === workload && each.connections === connections && each.bytes === SMALL,
    );
    return cell && Figures.of(results, cell, subject);
  };
  const goals: Goal[] = [];
  const atLeast = (goal: string, value: number | undefined, least: number): void => {
    if (value !== undefined) goals.push({ goal, figure: value.toFixed(2), reached: value >= least });
  };
  const atMost = (goal: string, value: number | undefined, most: number): void => {
    if (value !== undefined) goals.push({ goal, figure: value.toFixed(2), reached: value <= most });
  };

  const durable = figures('first requests', 32, 'durable');
  const rival = figures('first requests', 32, NODE_IDEMPOTENCY);
  const first = 'First requests, 32 connections, `durable`';
  atLeast(`${first}: at least 0.60 of bare`, durable?.ratio.median, 0.6);
  if (durable && rival) {
    const perBare = durable.ratio.median / rival.ratio.median;
    atLeast(`${first}: share of bare at least that of \`${NODE_IDEMPOTENCY}\` (as a ratio)`, perBare, 1);
    const absolute = durable.perSecond.median / rival.perSecond.median;
    atLeast(`${first}: requests/s at least those of \`${NODE_IDEMPOTENCY}\` (as a ratio)`, absolute, 1);
  }
  for (const [workload, subject, most] of ADDED) {
    const own = figures(workload, 1, subject)?.added.median;
    const theirs = figures(workload, 1, NODE_IDEMPOTENCY)?.added.median;
    if (own === undefined || theirs === undefined) continue;
    const what = `Added median latency, 1 connection, ${workload}, \`${subject}\``;
    atMost(`${what}: at most ${most.toFixed(2)} of what \`${NODE_IDEMPOTENCY}\` adds`, own / theirs, most);
  }
  for (const connections of [1, 32]) {
    const goal = `Replays, ${connections} connection${connections > 1 ? 's' : ''}, \`durable\`: at least 0.90 of bare`;
    atLeast(goal, figures('replays', connections, 'durable')?.ratio.median, 0.9);
  }
  for (const { wait, turns } of results.storms.filter(({ wait: each }) => each > 0)) {
    const own = turns.durable ?? [];
    if (own.length === 0) continue;
    const storm = `${DUPLICATES} duplicates at once of a handler of ${wait} ms, \`durable\``;
    const most = Math.max(...own.map(({ executions }) => executions));
    goals.push({ goal: `${storm}: one execution`, figure: String(most), reached: most === 1 });
    const ratio = spread(own.map(({ ms, single }) => ms / single)).median;
    atMost(`${storm}: last answer within 2 times one request`, ratio, 2);
  }
  return goals;
}

const ADDED: readonly (readonly [Workload, subject: string, most: number])[] = [
  ['replays', 'durable', 0.5],
  ['first requests', 'fast', 1.25],
  ['first requests', 'durable', 2],
  ['first requests', 'redis down', 2],
];
