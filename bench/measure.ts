import { randomUUID } from 'node:crypto';
import { eventually } from '../test/support/eventually';
import type { Loader, RunningSubject } from './child';
import type { State } from './host';
import { orderOf, type Burst } from './load';
import { difference, read, type Meters } from './measures';
import { DUPLICATES, SMALL, type Cell, type Effect, type Plan } from './plan';
import type { CellResult, InFlight, StormResult, StormTurn, Turn } from './results';
import type { Subject } from './subjects';

/** Seconds of a round that does not count, before those that do, and of each turn before it counts. */
const WARM_UP = 0.5;
const RUN_IN = 0.3;
/** Turns of a second for each kind of load. A subject is warm if its CPU per response falls by less than this share. */
const MOST_WARM_UPS = 25;
const LEVEL = 0.05;
const RECORDED = 512;
const BATCH = 64;
export const STORM_WAIT = 100;
const IN_FLIGHT = 2_000;
/** All at once would wait longer for a connection to Postgres than a request may. */
const WAVE = 100;

/** Leads the subjects through the plan, in turns. */
export class Measurement {
  private readonly keys = new Map<string, readonly string[]>();

  constructor(
    private readonly plan: Plan,
    private readonly subjects: ReadonlyMap<string, RunningSubject>,
    private readonly loader: Loader,
    private readonly meters: Meters,
  ) {}

  async cell(cell: Cell): Promise<CellResult> {
    const { workload, effect, connections, bytes } = cell;
    const turns: Record<string, Turn[]> = {};
    for (let round = -1; round < this.plan.rounds; round++) {
      for (const subject of rotated(cell.subjects, round)) {
        const running = this.of(subject);
        const seconds = round < 0 ? WARM_UP : this.plan.seconds;
        const turn = await this.turn(running, cell, seconds);
        if (round >= 0) (turns[subject.name] ??= []).push(turn);
      }
    }
    return { workload, effect, connections, bytes, turns };
  }

  /** @param wait milliseconds that the handler takes */
  async storm(wait: number): Promise<StormResult> {
    const turns: Record<string, StormTurn[]> = {};
    for (let round = -1; round < this.plan.rounds; round++) {
      for (const subject of rotated(this.plan.storms, round)) {
        const running = this.of(subject);
        const { url } = running;
        const order = { ...orderOf(SMALL, 'none'), wait };
        await this.loader.run({ kind: 'burst', url, count: DUPLICATES, order: orderOf(SMALL, 'none') });
        const { ms: single } = await this.loader.run({ kind: 'burst', url, count: 1, order });
        const before = await running.ask('state');
        const storm = { kind: 'burst', url, count: DUPLICATES, order, keys: [randomUUID()] } as const;
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
    const order = { ...orderOf(SMALL, 'none'), hold: true };
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

  /**
   * Until its CPU per response no longer falls: the more code a subject has, the longer V8 takes to compile it well, and
   * those that are slow run theirs less often.
   */
  async warmUp(): Promise<void> {
    const { seconds: least, untilLevel } = this.plan.warmUp;
    for (const running of this.subjects.values()) {
      for (const { workload, effect } of this.loadsOf(running.subject)) {
        const keys = workload === 'replays' ? await this.recorded(running, SMALL, effect) : undefined;
        const load = { kind: 'load', url: running.url, connections: 32, bytes: SMALL, effect, keys } as const;
        let last = Infinity;
        let level = 0;
        for (let turn = 0; turn < least || (untilLevel && level < 2 && turn < MOST_WARM_UPS); turn++) {
          const before = await read(running.pid, this.meters);
          const { responses } = await this.loader.run({ ...load, seconds: Math.min(1, least) });
          const { subjectCpu } = difference(before, await read(running.pid, this.meters));
          const each = subjectCpu / responses;
          level = each > last * (1 - LEVEL) ? level + 1 : 0;
          last = each;
        }
      }
    }
  }

  /** Each kind of load that a subject will have. */
  private loadsOf(subject: Subject): Cell[] {
    const cells = this.plan.cells.filter(({ subjects }) => subjects.includes(subject));
    return cells.filter(
      ({ workload, effect }, index) =>
        cells.findIndex((each) => each.workload === workload && each.effect === effect) === index,
    );
  }

  private async turn(running: RunningSubject, cell: Cell, seconds: number): Promise<Turn> {
    const { workload, effect, connections, bytes } = cell;
    const { url, pid } = running;
    const keys = workload === 'replays' ? await this.recorded(running, bytes, effect) : undefined;
    const load = { kind: 'load', url, connections, bytes, effect, keys } as const;
    // It has idled while the others had their turns.
    await this.loader.run({ ...load, seconds: RUN_IN });
    // What it says of itself takes time of its processor: that lies outside of what is read.
    const stateBefore = await running.ask('state');
    const before = await read(pid, this.meters);
    const measured = await this.loader.run({ ...load, seconds });
    const after = await read(pid, this.meters);
    const stateAfter = await running.ask('state');
    const of = (what: keyof State): number => stateAfter[what] - stateBefore[what];
    const used = { ...difference(before, after), allocated: of('allocated'), gcMs: of('gcMs') };
    return { ...measured, used, executions: of('executions') };
  }

  /** Keys whose responses are recorded, so many that two requests of one key seldom meet. */
  private async recorded(
    { url, subject }: RunningSubject,
    bytes: number,
    effect: Effect,
  ): Promise<readonly string[]> {
    const name = `${subject.name}, ${bytes}, ${effect}`;
    const known = this.keys.get(name);
    if (known) return known;
    const keys = Array.from({ length: RECORDED }, () => randomUUID());
    const order = orderOf(bytes, effect);
    for (let first = 0; first < RECORDED; first += BATCH) {
      const batch = keys.slice(first, first + BATCH);
      await this.loader.run({ kind: 'burst', url, count: BATCH, order, keys: batch });
    }
    this.keys.set(name, keys);
    return keys;
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
