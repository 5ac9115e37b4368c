import type { Load } from './load';
import type { Reading } from './measures';
import { SMALL, type Effect, type Workload } from './plan';
import { isFloor } from './subjects';

/** What a turn has used up. */
export interface Used extends Reading {
  /** Bytes on the subject's heap, and milliseconds of collecting its garbage. */
  readonly allocated: number;
  readonly gcMs: number;
}

/** One subject's turn under a load. */
export interface Turn extends Load {
  readonly used: Used;
  /** How often the handler ran, which protection must keep down to the number of keys. */
  readonly executions: number;
}

export interface CellResult {
  readonly workload: Workload;
  readonly effect: Effect;
  readonly connections: number;
  readonly bytes: number;
  /** By subject; the turns of one index were in the same round. */
  readonly turns: Readonly<Record<string, readonly Turn[]>>;
}

/** 200 requests of one key at once. */
export interface StormTurn {
  readonly ms: number;
  /** Milliseconds of one request alone, with a handler that takes as long. */
  readonly single: number;
  readonly executions: number;
  readonly statuses: Readonly<Record<number, number>>;
}

export interface StormResult {
  /** Milliseconds that the handler takes. */
  readonly wait: number;
  readonly turns: Readonly<Record<string, readonly StormTurn[]>>;
}

/** Bytes for each request in flight. */
export interface InFlight {
  readonly count: number;
  readonly heap: number;
  readonly rss: number;
}

export interface Results {
  readonly measured: string;
  readonly machine: string;
  readonly pinned: boolean;
  readonly rounds: number;
  readonly seconds: number;
  readonly bareOf: Readonly<Record<string, string>>;
  readonly cells: readonly CellResult[];
  readonly storms: readonly StormResult[];
  readonly inFlight: Readonly<Record<string, InFlight>>;
}

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function spread(values: readonly number[]): Spread {
  const sorted = values.filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  const median = ((sorted[Math.floor(middle)] ?? NaN) + (sorted[Math.ceil(middle)] ?? NaN)) / 2;
  return { median, min: sorted[0] ?? NaN, max: sorted.at(-1) ?? NaN };
}

/** Of which CPU there is: what protection uses up of it, beside what it is used for anyway. */
export const CPU = ['subjectCpu', 'postgresCpu', 'redisCpu'] as const;

export function perResponse({ used, responses }: Turn, what: keyof Used): number {
  return used[what] / responses;
}

/**
 * How many requests meet in one transaction of the module's, on average. A first request needs two, its claim and its
 * completion; the rows of handlers are transactions of their own. NaN where there are none of the module's.
 */
export function batchOf(
  { workload, effect, connections }: CellResult,
  { used, executions, responses }: Turn,
): number {
  const share = (used.commits - (effect === 'row' ? executions : 0)) / responses;
  // All connections in one batch are two for so many; fewer are those of Postgres itself.
  return workload === 'first requests' && share > 1 / connections ? 2 / share : NaN;
}

/** What a subject's turns say; each figure is compared with its bare application's of the same round. */
export class Figures {
  private constructor(
    private readonly cell: CellResult,
    private readonly own: readonly Turn[],
    private readonly bare: readonly Turn[],
  ) {}

  static of(results: Results, cell: CellResult, subject: string): Figures | undefined {
    const own = cell.turns[subject];
    const bare = cell.turns[results.bareOf[subject] ?? ''];
    return own && bare && new Figures(cell, own, bare);
  }

  get perSecond(): Spread {
    return spread(this.own.map(({ perSecond }) => perSecond));
  }

  /** Requests per second, of bare. */
  get ratio(): Spread {
    return this.paired((own, bare) => own.perSecond / bare.perSecond);
  }

  latency(share: 'p50' | 'p95' | 'p99'): Spread {
    return spread(this.own.map((turn) => turn[share]));
  }

  /** Milliseconds of latency beyond bare's. */
  added(share: 'p50' | 'p99'): Spread {
    return this.paired((own, bare) => own[share] - bare[share]);
  }

  /** For each response. */
  used(what: keyof Used): Spread {
    return spread(this.own.map((turn) => perResponse(turn, what)));
  }

  /** For each response, beyond bare's. */
  addedUse(what: keyof Used): Spread {
    return this.paired((own, bare) => perResponse(own, what) - perResponse(bare, what));
  }

  get batch(): Spread {
    // Requests that are under way when a turn ends would look like a few batches of the bare application.
    return spread(this.own === this.bare ? [] : this.own.map((turn) => batchOf(this.cell, turn)));
  }

  get failures(): number {
    return this.own.reduce((sum, { failures }) => sum + failures, 0);
  }

  /**
   * Whether every key was executed once. A turn leaves at most one request per connection unanswered, and so does its
   * run-in, whose last executions count with the turn's.
   */
  get once(): boolean {
    const { workload, connections } = this.cell;
    if (this.own === this.bare) return true;
    return this.own.every(({ executions, responses }) =>
      workload === 'replays'
        ? executions === 0
        : executions >= responses && executions <= responses + 2 * connections,
    );
  }

  /** One figure for each round. */
  rounds(figure: (own: Turn, bare: Turn) => number): readonly number[] {
    return this.own.flatMap((turn, round) => (this.bare[round] ? [figure(turn, this.bare[round])] : []));
  }

  private paired(figure: (own: Turn, bare: Turn) => number): Spread {
    return spread(this.rounds(figure));
  }
}

/** What is compared with its bare application: neither that itself nor the floor. */
export function productsIn({ bareOf, cells }: Results): string[] {
  const measured = new Set(cells.flatMap(({ turns }) => Object.keys(turns)));
  return [...measured].filter((name) => bareOf[name] !== name && !isFloor({ name }));
}

/** A load of small requests, as most goals, charts and summaries look at. */
export interface LoadAt {
  readonly workload: Workload;
  readonly effect: Effect;
  readonly connections: number;
}

/** A subject's figures at a load, if they were measured. */
export function figuresAt(results: Results, load: LoadAt, subject: string): Figures | undefined {
  const cell = results.cells.find(
    ({ workload, effect, connections, bytes, turns }) =>
      workload === load.workload &&
      effect === load.effect &&
      connections === load.connections &&
      bytes === SMALL &&
      subject in turns,
  );
  return cell && Figures.of(results, cell, subject);
}
