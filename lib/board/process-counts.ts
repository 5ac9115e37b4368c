import { Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { performance } from 'node:perf_hooks';
import { inBackground } from '../core/background';
import { loadIfInstalled } from '../core/optional-package';
import { NAMES } from '../observability/metrics';

type Prometheus = typeof import('prom-client');

/** Milliseconds between two looks at the counters, and how many looks a rate is over. */
const PAUSE = 10_000;
const LOOKS = 6;

const SHOWN = [
  'inFlight',
  'waitingRequests',
  'pendingWrites',
  'redisHits',
  'dbHits',
  'orphans',
  'leasesLost',
  'redisErrors',
  'dbErrors',
] as const satisfies (keyof typeof NAMES)[];

type ShownName = (typeof SHOWN)[number];

/** What is shown of a counter with a label. */
export interface CountedKind {
  readonly kind: string;
  /** Since the start of the process. */
  readonly total: number;
  /** In each second of the last minute, or since the start where that is less; undefined until it is known. */
  readonly rate: number | undefined;
}

/** What this process has counted. */
export interface Counts {
  readonly requests: readonly CountedKind[];
  readonly shed: readonly CountedKind[];
  /** Undefined where a metric has no value. */
  value(name: ShownName): number | undefined;
}

interface Look {
  readonly at: number;
  readonly requests: ReadonlyMap<string, number>;
  readonly shed: ReadonlyMap<string, number>;
}

/** Reads the module's metrics where they are kept: prom-client's default registry. */
@Injectable()
export class ProcessCounts implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly registry = loadIfInstalled(() => require('prom-client') as Prometheus)?.register;
  private looks: Look[] = [];
  private timer: NodeJS.Timeout | undefined;

  async onApplicationBootstrap(): Promise<void> {
    await this.look();
    this.timer = inBackground(() => setInterval(() => void this.look().catch(() => undefined), PAUSE));
    this.timer.unref();
  }

  onApplicationShutdown(): void {
    clearInterval(this.timer);
  }

  /** Undefined where prom-client is not installed, so that nothing is counted. */
  async read(): Promise<Counts | undefined> {
    if (!this.registry?.getSingleMetric(NAMES.requests)) return undefined;
    const values = new Map<ShownName, number | undefined>();
    for (const name of SHOWN) values.set(name, await this.sum(NAMES[name]));
    const now = await this.counted();
    const [before] = this.looks;
    return {
      requests: kinds(now, before, 'requests'),
      shed: kinds(now, before, 'shed'),
      value: (name) => values.get(name),
    };
  }

  private async look(): Promise<void> {
    this.looks = [...this.looks.slice(1 - LOOKS), await this.counted()];
  }

  private async counted(): Promise<Look> {
    return {
      at: performance.now(),
      requests: await this.by(NAMES.requests, 'outcome'),
      shed: await this.by(NAMES.shed, 'reason'),
    };
  }

  private async by(name: string, label: string): Promise<Map<string, number>> {
    const totals = new Map<string, number>();
    for (const { labels, value } of await this.values(name)) {
      const kind = String(labels[label]);
      totals.set(kind, (totals.get(kind) ?? 0) + value);
    }
    return totals;
  }

  private async sum(name: string): Promise<number | undefined> {
    const values = await this.values(name);
    return values.length === 0 ? undefined : values.reduce((sum, { value }) => sum + value, 0);
  }

  private async values(name: string): Promise<readonly Sample[]> {
    const metric = this.registry?.getSingleMetric(name);
    return metric ? (await metric.get()).values : [];
  }
}

interface Sample {
  readonly labels: Readonly<Partial<Record<string, string | number>>>;
  readonly value: number;
}

function kinds(now: Look, before: Look | undefined, name: 'requests' | 'shed'): CountedKind[] {
  const seconds = before ? (now.at - before.at) / 1000 : 0;
  return [...now[name]]
    .filter(([, total]) => total > 0)
    .map(([kind, total]) => ({
      kind,
      total,
      rate: seconds < 1 ? undefined : (total - (before?.[name].get(kind) ?? 0)) / seconds,
    }))
    .sort((one, other) => other.total - one.total);
}
