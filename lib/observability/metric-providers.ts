import { Logger, type FactoryProvider, type Provider } from '@nestjs/common';
import type { Aggregator } from 'prom-client';
import { loadIfInstalled } from '../core/optional-package';
import { REQUEST_OUTCOMES, SHED_REASONS, type Metrics, type RequestObserver } from '../core/ports';
import { COUNTED, IdempotencyMetrics, NAMES, presentValue, routeLabels } from './metrics';

const uncounted = (): void => undefined;

/** Counts nothing. */
export const noMetrics: Metrics = {
  labelRoutes: uncounted,
  leaseLost: uncounted,
  cleanedUp: uncounted,
  storeOperation: uncounted,
  storeError: uncounted,
  tierUp: uncounted,
  tierDisabled: uncounted,
  orphansSeen: uncounted,
  orphansSought: uncounted,
  pendingWrite: uncounted,
};

type Prometheus = typeof import('@willsoto/nestjs-prometheus');

/** Without `@willsoto/nestjs-prometheus` and `prom-client` nothing is counted. */
export function metricProviders(): Provider[] {
  const prometheus = loadIfInstalled(() => require('@willsoto/nestjs-prometheus') as Prometheus);
  return prometheus ? counting(prometheus) : [notCounting];
}

const notCounting: FactoryProvider<Metrics & Partial<RequestObserver>> = {
  provide: IdempotencyMetrics,
  useFactory: () => {
    new Logger('Idempotency').debug(
      'There are no metrics, as @willsoto/nestjs-prometheus or prom-client is not installed.',
    );
    return noMetrics;
  },
};

/**
 * The metrics register themselves with prom-client's default registry, so they work with or without
 * `PrometheusModule`, and two applications in one process share them.
 */
function counting({
  getToken,
  makeCounterProvider,
  makeGaugeProvider,
  makeHistogramProvider,
}: Prometheus): Provider[] {
  /**
   * A gauge that takes its value when it is scraped. One whose value is not known has no sample: NaN would do, but
   * becomes 0 on its way from a worker of a Node cluster, and 0 means down.
   * @param aggregator what it is over all workers of a Node cluster
   */
  const gaugeProvider = (name: string, help: string, aggregator: Aggregator): Provider =>
    makeGaugeProvider({
      name,
      help,
      aggregator,
      collect() {
        const value = presentValue(name);
        if (value === undefined) this.remove();
        else this.set(value);
      },
    });
  return [
    {
      provide: IdempotencyMetrics,
      inject: COUNTED.map((name) => getToken(name)),
      useFactory: (...counted: ConstructorParameters<typeof IdempotencyMetrics>) =>
        new IdempotencyMetrics(...counted),
    },
    makeCounterProvider({ name: NAMES.redisHits, help: 'Replays answered from Redis' }),
    makeCounterProvider({
      name: NAMES.dbHits,
      help: "Replays answered from Postgres, or from the application's own store",
    }),
    makeCounterProvider({
      name: NAMES.misses,
      help: 'First requests: the handler was run under a new claim',
    }),
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
      labelNames: ['outcome', 'route'],
      // A series that begins with its first event shows no increase, so its alert would miss that event.
      collect() {
        for (const outcome of REQUEST_OUTCOMES) {
          this.inc({ outcome }, 0);
          for (const route of routeLabels) this.inc({ outcome, route }, 0);
        }
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
    gaugeProvider(
      NAMES.lastOrphanLook,
      'Seconds since this process last counted the orphans in Postgres, or since its start without any',
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
    gaugeProvider(
      NAMES.inFlight,
      'Handlers of this process that run under a claim, or in a transaction',
      'sum',
    ),
    gaugeProvider(
      NAMES.lastCleanup,
      'Seconds since this process last ended a pass of the cleanup, or since its start without any',
      'min',
    ),
  ];
}
