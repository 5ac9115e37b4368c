import type { Load } from './load';
import type { Reading } from './measures';
import type { Workload } from './plan';
import { isFloor } from './subjects';

/** One subject's turn under a load. */
export interface Turn extends Load {
  readonly used: Reading;
  /** How often the handler ran, which protection must keep down to the number of keys. */
  readonly executions: number;
}

export interface CellResult {
  readonly workload: Workload;
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

  /** Milliseconds of median latency beyond bare's. */
  get added(): Spread {
    return this.paired((own, bare) => own.p50 - bare.p50);
  }

  used(what: keyof Reading): Spread {
    return spread(this.own.map(({ used, responses }) => used[what] / responses));
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

  private paired(figure: (own: Turn, bare: Turn) => number): Spread {
    return spread(
      this.own.flatMap((turn, round) => (this.bare[round] ? [figure(turn, this.bare[round])] : [])),
    );
  }
}

/** What is compared with its bare application: neither that itself nor the floor. */
export function productsIn({ bareOf }: Results, cell: CellResult | undefined): string[] {
  return Object.keys(cell?.turns ?? {}).filter((name) => bareOf[name] !== name && !isFloor({ name }));
}
