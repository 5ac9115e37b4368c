import { DUPLICATES, SMALL, type Workload } from './plan';
import { Figures, spread, type Results } from './results';
import { NODE_IDEMPOTENCY } from './subjects';

export interface Goal {
  readonly goal: string;
  readonly figure: string;
  /** The same of the least code that could do it, where there is one (floor.ts). */
  readonly floor?: string;
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
  const judge = (goal: string, reaches: (value: number) => boolean, value?: number, floor?: number): void => {
    if (value === undefined) return;
    goals.push({ goal, figure: value.toFixed(2), floor: floor?.toFixed(2), reached: reaches(value) });
  };

  const durable = figures('first requests', 32, 'durable');
  const floor = figures('first requests', 32, 'floor');
  const rival = figures('first requests', 32, NODE_IDEMPOTENCY);
  const first = 'First requests, 32 connections, `durable`';
  const share = (own?: Figures): number | undefined => own?.ratio.median;
  judge(`${first}: at least 0.60 of bare`, (value) => value >= 0.6, share(durable), share(floor));
  if (rival) {
    const perBare = (own?: Figures): number | undefined => own && own.ratio.median / rival.ratio.median;
    const goal = `${first}: share of bare at least that of \`${NODE_IDEMPOTENCY}\` (as a ratio)`;
    judge(goal, (value) => value >= 1, perBare(durable), perBare(floor));
    const absolute = (own?: Figures): number | undefined =>
      own && own.perSecond.median / rival.perSecond.median;
    const faster = `${first}: requests/s at least those of \`${NODE_IDEMPOTENCY}\` (as a ratio)`;
    judge(faster, (value) => value >= 1, absolute(durable), absolute(floor));
  }
  for (const [workload, subject, most, least] of ADDED) {
    const theirs = figures(workload, 1, NODE_IDEMPOTENCY)?.added.median;
    if (theirs === undefined) continue;
    const added = (name: string): number | undefined => {
      const own = figures(workload, 1, name)?.added.median;
      return own === undefined ? undefined : own / theirs;
    };
    const what = `Added median latency, 1 connection, ${workload}, \`${subject}\``;
    const goal = `${what}: at most ${most.toFixed(2)} of what \`${NODE_IDEMPOTENCY}\` adds`;
    judge(goal, (value) => value <= most, added(subject), added(least));
  }
  for (const connections of [1, 32]) {
    const goal = `Replays, ${connections} connection${connections > 1 ? 's' : ''}, \`durable\`: at least 0.90 of bare`;
    const of = (name: string): number | undefined => share(figures('replays', connections, name));
    judge(goal, (value) => value >= 0.9, of('durable'), of('floor'));
  }
  for (const { wait, turns } of results.storms.filter(({ wait: each }) => each > 0)) {
    const own = turns.durable ?? [];
    if (own.length === 0) continue;
    const storm = `${DUPLICATES} duplicates at once of a handler of ${wait} ms, \`durable\``;
    const most = Math.max(...own.map(({ executions }) => executions));
    goals.push({ goal: `${storm}: one execution`, figure: String(most), reached: most === 1 });
    const ratio = spread(own.map(({ ms, single }) => ms / single)).median;
    judge(`${storm}: last answer within 2 times one request`, (value) => value <= 2, ratio);
  }
  return goals;
}

const ADDED: readonly (readonly [Workload, subject: string, most: number, floor: string])[] = [
  ['replays', 'durable', 0.5, 'floor'],
  ['first requests', 'fast', 1.25, 'floor, fast'],
  ['first requests', 'durable', 2, 'floor'],
  ['first requests', 'redis down', 2, 'floor, redis down'],
];
