import { Injectable, type Provider } from '@nestjs/common';
import {
  InjectMetric,
  makeCounterProvider,
  makeGaugeProvider,
  makeHistogramProvider,
} from '@willsoto/nestjs-prometheus';
import { Counter, Histogram, type Aggregator } from 'prom-client';
import {
  REQUEST_OUTCOMES,
  SHED_REASONS,
  type Metrics,
  type RequestOutcome,
  type ShedReason,
} from '../core/ports';
import type { Tier } from '../core/record';

const NAMES = {
  redisHits: 'idempotency_redis_hits',
  dbHits: 'idempotency_db_hits',
  misses: 'idempotency_misses',
  redisErrors: 'idempotency_redis_errors',
  dbErrors: 'idempotency_db_errors',
  requests: 'idempotency_requests_total',
  storeDuration: 'idempotency_store_duration_seconds',
  redisUp: 'idempotency_redis_up',
  postgresUp: 'idempotency_postgres_up',
  storeUp: 'idempotency_store_up',
  orphans: 'idempotency_orphans_taken_over_total',
  leasesLost: 'idempotency_leases_lost_total',
  pendingWrites: 'idempotency_pending_writes',
  orphansStanding: 'idempotency_orphans',
  oldestOrphan: 'idempotency_oldest_orphan_seconds',
  shed: 'idempotency_shed_total',
  waitingRequests: 'idempotency_waiting_requests',
  waitingBytes: 'idempotency_waiting_bytes',
} as const;

const UP_GAUGES: Readonly<Record<Tier, string>> = {
  redis: NAMES.redisUp,
  postgres: NAMES.postgresUp,
  store: NAMES.storeUp,
};

/** What the gauges show, by name. Their own values do not survive `register.resetMetrics()`. */
const present = new Map<string, number>();

/**
 * A gauge that takes its value when it is scraped. One whose value is not known has no sample: NaN would do, but
 * becomes 0 on its way from a worker of a Node cluster, and 0 means down.
 * @param aggregator what it is over all workers of a Node cluster
 */
function gaugeProvider(name: string, help: string, aggregator: Aggregator): Provider {
  return makeGaugeProvider({
    name,
    help,
    aggregator,
    collect() {
      const value = present.get(name);
      if (value === undefined) this.remove();
      else this.set(value);
    },
  });
}

/**
 * The metrics register themselves with prom-client's default registry, so they work with or without
 * `PrometheusModule`, and two applications in one process share them.
 */
export const metricProviders: Provider[] = [
  makeCounterProvider({ name: NAMES.redisHits, help: 'Replays answered from Redis' }),
  makeCounterProvider({
    name: NAMES.dbHits,
    help: "Replays answered from Postgres, or from the application's own store",
  }),
  makeCounterProvider({ name: NAMES.misses, help: 'First requests: the handler was run under a new claim' }),
  makeCounterProvider({
    name: NAMES.redisErrors,
    help: 'Redis operations that failed, timed out, or were bypassed',
  }),
  makeCounterProvider({
    name: NAMES.dbErrors,
    help: "Operations of Postgres, or of the application's own store, that failed or timed out",
  }),
  makeCounterProvider({
    name: NAMES.requests,
    help: 'Requests to idempotent routes by what became of them',
    labelNames: ['outcome'],
    // A series that begins with its first event shows no increase, so its alert would miss that event.
    collect() {
      for (const outcome of REQUEST_OUTCOMES) this.inc({ outcome }, 0);
    },
  }),
  makeHistogramProvider({
    name: NAMES.storeDuration,
    help: 'Duration of store operations',
    labelNames: ['tier', 'operation'],
    buckets: [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 2.5],
  }),
  gaugeProvider(NAMES.redisUp, '1 while Redis is used, 0 while it is bypassed', 'min'),
  gaugeProvider(NAMES.postgresUp, '1 while Postgres answers, 0 while it does not', 'min'),
  gaugeProvider(NAMES.storeUp, "1 while the application's own store answers, 0 while it does not", 'min'),
  makeCounterProvider({ name: NAMES.orphans, help: 'Lapsed claims taken over from an owner that is lost' }),
  makeCounterProvider({
    name: NAMES.leasesLost,
    help: 'Handlers that lost their lease before their outcome was recorded',
  }),
  gaugeProvider(
    NAMES.pendingWrites,
    'Outcomes and releases of this process that are still to be written to the arbiter',
    'sum',
  ),
  gaugeProvider(
    NAMES.orphansStanding,
    'Claims in Postgres whose lease has lapsed, and that no request took over',
    'max',
  ),
  gaugeProvider(
    NAMES.oldestOrphan,
    'Seconds since the lease of the oldest orphan lapsed, 0 without any',
    'max',
  ),
  makeCounterProvider({
    name: NAMES.shed,
    help: 'Requests turned away with 503 because too many wait, by what was full',
    labelNames: ['reason'],
    collect() {
      for (const reason of SHED_REASONS) this.inc({ reason }, 0);
    },
  }),
  gaugeProvider(
    NAMES.waitingRequests,
    'Requests of this process that wait for another one of their key',
    'sum',
  ),
  gaugeProvider(
    NAMES.waitingBytes,
    'Bytes of the bodies of requests that wait for another one of their key',
    'sum',
  ),
];

/** The one place that knows the metrics' names. Labels hold no key, scope, path or body. */
@Injectable()
export class IdempotencyMetrics implements Metrics {
  /** {@link storeDuration} with its labels bound, by operation: each request counts several. */
  private readonly durations: Readonly<Record<Tier, Map<string, Histogram.Internal<'tier' | 'operation'>>>> =
    {
      redis: new Map(),
      postgres: new Map(),
      store: new Map(),
    };

  constructor(
    @InjectMetric(NAMES.redisHits) private readonly redisHits: Counter,
    @InjectMetric(NAMES.dbHits) private readonly dbHits: Counter,
    @InjectMetric(NAMES.misses) private readonly misses: Counter,
    @InjectMetric(NAMES.redisErrors) private readonly redisErrors: Counter,
    @InjectMetric(NAMES.dbErrors) private readonly dbErrors: Counter,
    @InjectMetric(NAMES.requests) private readonly requests: Counter<'outcome'>,
    @InjectMetric(NAMES.storeDuration) private readonly storeDuration: Histogram<'tier' | 'operation'>,
    @InjectMetric(NAMES.orphans) private readonly orphans: Counter,
    @InjectMetric(NAMES.leasesLost) private readonly leasesLost: Counter,
    @InjectMetric(NAMES.shed) private readonly sheds: Counter<'reason'>,
  ) {}

  request(outcome: RequestOutcome): void {
    this.requests.inc({ outcome });
  }

  replayedFrom(tier: Tier): void {
    (tier === 'redis' ? this.redisHits : this.dbHits).inc();
  }

  firstRequest(): void {
    this.misses.inc();
  }

  storeOperation(tier: Tier, operation: string, seconds: number): void {
    const durations = this.durations[tier];
    let duration = durations.get(operation);
    if (!duration) durations.set(operation, (duration = this.storeDuration.labels({ tier, operation })));
    duration.observe(seconds);
  }

  storeError(tier: Tier): void {
    (tier === 'redis' ? this.redisErrors : this.dbErrors).inc();
  }

  tierUp(tier: Tier, up: boolean): void {
    present.set(upGauge(tier), up ? 1 : 0);
  }

  /** A tier that is switched off is neither up nor down: its gauge has no sample. */
  tierDisabled(tier: Tier): void {
    present.delete(upGauge(tier));
  }

  orphanTakenOver(): void {
    this.orphans.inc();
  }

  leaseLost(): void {
    this.leasesLost.inc();
  }

  /** All instances see the same ones, as they stand in the table. */
  orphansSeen({ count, oldest }: { readonly count: number; readonly oldest: number }): void {
    present.set(NAMES.orphansStanding, count);
    present.set(NAMES.oldestOrphan, oldest);
  }

  pendingWrite(change: 1 | -1): void {
    add(NAMES.pendingWrites, change);
  }

  shed(reason: ShedReason): void {
    this.sheds.inc({ reason });
  }

  /** Two applications in one process share the gauges, so what changes is added. */
  waiting(requests: number, bytes: number): void {
    add(NAMES.waitingRequests, requests);
    add(NAMES.waitingBytes, bytes);
  }
}

function add(name: string, change: number): void {
  present.set(name, (present.get(name) ?? 0) + change);
}

function upGauge(tier: Tier): string {
  return UP_GAUGES[tier];
}
