import { randomUUID } from 'node:crypto';
import { eventually } from '../test/support/eventually';
import type { Loader, RunningSubject } from './child';
import type { State } from './host';
import { orderOf, type Burst } from './load';
import { difference, read, type Meters } from './measures';
import { DUPLICATES, SMALL, type Cell, type Plan } from './plan';
import type { CellResult, InFlight, StormResult, StormTurn, Turn } from './results';
import { isBare, type Subject } from './subjects';

/** Warms a subject up before its first turn counts. */
const WARM_UP = { first: 2, later: 0.5 };
export const STORM_WAIT = 100;
const IN_FLIGHT = 2_000;
/** All at once would wait longer for a connection to Postgres than a request may. */
const WAVE = 100;

/** Leads the subjects through the plan, in turns. */
export class Measurement {
  private readonly warm = new Set<string>();

  constructor(
    private readonly plan: Plan,
    private readonly subjects: ReadonlyMap<string, RunningSubject>,
    private readonly loader: Loader,
    private readonly meters: Meters,
  ) {}

  async cell(cell: Cell): Promise<CellResult> {
    const { workload, connections, bytes } = cell;
    const turns: Record<string, Turn[]> = {};
    for (let round = -1; round < this.plan.rounds; round++) {
      for (const subject of rotated(cell.subjects, round)) {
        const running = this.of(subject);
        const seconds = round < 0 ? this.warmUp(subject) : this.plan.seconds;
        const turn = await this.turn(running, cell, seconds);
        if (round >= 0) (turns[subject.name] ??= []).push(turn);
      }
    }
    return { workload, connections, bytes, turns };
  }

  /** @param wait milliseconds that the handler takes */
  async storm(wait: number): Promise<StormResult> {
    const turns: Record<string, StormTurn[]> = {};
    for (let round = -1; round < this.plan.rounds; round++) {
      for (const subject of rotated(this.plan.storms, round)) {
        const running = this.of(subject);
        const { url } = running;
        const order = { ...orderOf(SMALL), wait };
        await this.loader.run({ kind: 'burst', url, count: DUPLICATES, order: orderOf(SMALL) });
        const { ms: single } = await this.loader.run({ kind: 'burst', url, count: 1, order });
        const before = await running.ask('state');
        const storm = { kind: 'burst', url, count: DUPLICATES, order, key: randomUUID() } as const;
        const { ms, statuses } = await this.loader.run(storm);
        const { executions } = await running.ask('state');
        const turn = { ms, single, statuses, executions: executions - before.executions };
        if (round >= 0) (turns[subject.name] ??= []).push(turn);
      }
    }
    return { wait, turns };
  }

  async inFlight(subject: Subject): Promise<InFlight> {
    const running = this.of(subject);
    await this.hold(running); // open connections are no cost of a request: they are there before and after
    const before = await running.ask('settled');
    const during = await this.hold(running);
    const each = (what: 'heap' | 'rss'): number => (during[what] - before[what]) / IN_FLIGHT;
    return { count: IN_FLIGHT, heap: each('heap'), rss: each('rss') };
  }

  /** The state of a subject with that many requests in flight, which are answered then. */
  private async hold(running: RunningSubject): Promise<State> {
    const { url, subject } = running;
    const order = { ...orderOf(SMALL), hold: true };
    const { executions: before } = await running.ask('state');
    const held: Promise<Burst>[] = [];
    for (let count = WAVE; count <= IN_FLIGHT; count += WAVE) {
      held.push(this.loader.run({ kind: 'burst', url, count: WAVE, order }));
      await eventually(async () => {
        const { executions } = await running.ask('state');
        if (executions < before + count) throw new Error(`${subject.name} refuses some of ${count} requests`);
      });
    }
    const state = await running.ask('settled');
    await running.ask('release');
    await Promise.all(held);
    return state;
  }

  private async turn(running: RunningSubject, cell: Cell, seconds: number): Promise<Turn> {
    const { workload, connections, bytes } = cell;
    const { url } = running;
    const key = workload === 'replays' ? randomUUID() : undefined;
    if (key !== undefined)
      await this.loader.run({ kind: 'burst', url, count: 1, order: orderOf(bytes), key });
    const { executions } = await running.ask('state');
    const before = await read(running.pid, this.meters);
    const load = await this.loader.run({ kind: 'load', url, connections, seconds, bytes, key });
    const used = difference(before, await read(running.pid, this.meters));
    const after = await running.ask('state');
    const ran = after.executions - executions;
    return { ...load, used, executions: isBare(running.subject) ? load.responses : ran };
  }

  private warmUp({ name }: Subject): number {
    const seconds = this.warm.has(name) ? WARM_UP.later : WARM_UP.first;
    this.warm.add(name);
    return Math.min(seconds, 2 * this.plan.seconds);
  }

  private of({ name }: Subject): RunningSubject {
    const running = this.subjects.get(name);
    if (!running) throw new Error(`${name} does not run`);
    return running;
  }
}

/** Nobody is always the first, or always after the same one. */
function rotated(subjects: readonly Subject[], round: number): readonly Subject[] {
  const first = (Math.max(round, 0) * 3) % subjects.length;
  return [...subjects.slice(first), ...subjects.slice(0, first)];
}
