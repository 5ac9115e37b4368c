import { performance } from 'node:perf_hooks';
import type { Counter, Histogram } from 'prom-client';
import type { Metrics, ObservedRequest, RequestObserver, RequestOutcome, ShedReason } from '../core/ports';
import type { Claim, Tier } from '../core/record';

export const NAMES = {
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
  lastOrphanLook: 'idempotency_last_orphan_look_age_seconds',
  shed: 'idempotency_shed_total',
  waitingRequests: 'idempotency_waiting_requests',
  waitingBytes: 'idempotency_waiting_bytes',
  inFlight: 'idempotency_in_flight',
  lastCleanup: 'idempotency_last_cleanup_age_seconds',
} as const;

const UP_GAUGES: Readonly<Record<Tier, string>> = {
  redis: NAMES.redisUp,
  postgres: NAMES.postgresUp,
  store: NAMES.storeUp,
};

/** What is counted as it happens. */
export const COUNTED = [
  NAMES.redisHits,
  NAMES.dbHits,
  NAMES.misses,
  NAMES.redisErrors,
  NAMES.dbErrors,
  NAMES.requests,
  NAMES.storeDuration,
  NAMES.orphans,
  NAMES.leasesLost,
  NAMES.shed,
] as const;

/** What the gauges show, by name. Their own values do not survive `register.resetMetrics()`. */
const present = new Map<string, number | (() => number)>();

/** Each route has a series for each outcome; what is past the bound shares one. */
const MOST_ROUTES = 200;
const OTHER_ROUTES = 'other';

/** The values of the label `route`. */
export const routeLabels = new Set<string>();

/** Of a gauge; undefined if it is not known. */
export function presentValue(name: string): number | undefined {
  const value = present.get(name);
  return typeof value === 'function' ? value() : value;
}

/** The one place that knows the metrics' names. Labels hold no key, scope, path or body: a route is a pattern. */
export class IdempotencyMetrics implements Metrics, Partial<RequestObserver> {
  /** {@link storeDuration} with its labels bound, by operation: each request counts several. */
  private readonly durations: Readonly<Record<Tier, Map<string, Histogram.Internal<'tier' | 'operation'>>>> =
    {
      redis: new Map(),
      postgres: new Map(),
      store: new Map(),
    };
  private labelsRoutes = false;

  /** In the order of {@link COUNTED}. */
  constructor(
    private readonly redisHits: Counter,
    private readonly dbHits: Counter,
    private readonly misses: Counter,
    private readonly redisErrors: Counter,
    private readonly dbErrors: Counter,
    private readonly requests: Counter<'outcome' | 'route'>,
    private readonly storeDuration: Histogram<'tier' | 'operation'>,
    private readonly orphans: Counter,
    private readonly leasesLost: Counter,
    private readonly sheds: Counter<'reason'>,
  ) {
    // What is counted in the process is known from the start.
    for (const name of [NAMES.inFlight, NAMES.pendingWrites, NAMES.waitingRequests, NAMES.waitingBytes])
      add(name, 0);
  }

  labelRoutes(known: Iterable<string>): void {
    this.labelsRoutes = true;
    for (const route of known) routeLabel(route);
  }

  ended({ routePattern }: ObservedRequest, outcome: RequestOutcome, tier?: Tier): void {
    if (routePattern === undefined || !this.labelsRoutes) this.requests.inc({ outcome });
    else this.requests.inc({ outcome, route: routeLabel(routePattern) });
    if (outcome === 'replayed' && tier) (tier === 'redis' ? this.redisHits : this.dbHits).inc();
  }

  claimed(_: ObservedRequest, { attempt }: Claim): void {
    if (attempt > 1) this.orphans.inc();
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

  leaseLost(): void {
    this.leasesLost.inc();
  }

  inFlight(change: 1 | -1): void {
    add(NAMES.inFlight, change);
  }

  cleanedUp(at: number): void {
    present.set(NAMES.lastCleanup, () => (performance.now() - at) / 1000);
  }

  /** All instances see the same ones, as they stand in the table. The values stay where a later look fails. */
  orphansSeen({ count, oldest }: { readonly count: number; readonly oldest: number }): void {
    present.set(NAMES.orphansStanding, count);
    present.set(NAMES.oldestOrphan, oldest);
  }

  orphansSought(at: number): void {
    present.set(NAMES.lastOrphanLook, () => (performance.now() - at) / 1000);
  }

  pendingWrite(change: 1 | -1): void {
    add(NAMES.pendingWrites, change);
  }

  shed(_: ObservedRequest, reason: ShedReason): void {
    this.sheds.inc({ reason });
  }

  /** Two applications in one process share the gauges, so what changes is added. */
  waiting(requests: number, bytes: number): void {
    add(NAMES.waitingRequests, requests);
    add(NAMES.waitingBytes, bytes);
  }
}

function add(name: string, change: number): void {
  const value = present.get(name);
  present.set(name, (typeof value === 'number' ? value : 0) + change);
}

/** The value of the label, which is bounded. */
function routeLabel(route: string): string {
  if (routeLabels.has(route)) return route;
  const label = routeLabels.size < MOST_ROUTES ? route : OTHER_ROUTES;
  routeLabels.add(label);
  return label;
}

function upGauge(tier: Tier): string {
  return UP_GAUGES[tier];
}
