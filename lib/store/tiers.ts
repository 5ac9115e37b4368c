import { IdempotencySetupError } from '../core/errors';
import { plainDigest } from '../core/digest';
import type { Metrics } from '../core/ports';
import { recordId, type Claim, type Outcome, type Tier } from '../core/record';
import type { CompleteResult, IdempotencyStore } from '../core/store';
import type { ModuleSettings } from '../options/resolve';
import type { OwnStoreProvider } from './own-store.provider';
import { PendingWrites, type Completion } from './pending-writes';
import type { PostgresProvider } from './postgres/postgres.provider';
import { RecordCache } from './record-cache';
import type { RedisProvider } from './redis/redis.provider';
import { StoreMonitor } from './store-monitor';

/** Asks a store for a sign of life: no such record exists. */
export const PROBE = recordId('health', 'probe', plainDigest);

/** For how long (ms) an outcome that an application's own store could not take is tried again. */
const OWN_RETENTION = 86_400_000;

/** The only store whose answer may let a handler run. */
export interface Arbiter extends IdempotencyStore {
  /** Of one that has copies in Redis: whether an operator has deleted the record that this claim had made. */
  isForgotten?(claim: Claim): Promise<boolean>;
}

/** The stores of one application, by what they are for. */
export interface Tiers {
  readonly name: Tier;
  readonly arbiter: Arbiter;
  readonly monitor: StoreMonitor;
  /** May be empty, stale or away. Undefined where Redis is the arbiter, or disabled. */
  readonly cache: RecordCache | undefined;
  /** Milliseconds for which an outcome that the arbiter could not take is tried again. */
  readonly retention: number;
  readonly pending: PendingWrites;
}

/** Where the stores come from. */
export interface StoreSources {
  readonly settings: ModuleSettings;
  readonly redis: Pick<RedisProvider, 'open' | 'close'>;
  readonly postgres: Pick<PostgresProvider, 'open' | 'close' | 'silentAtStart' | 'tableTag'>;
  readonly own: Pick<OwnStoreProvider, 'open'> | undefined;
  readonly metrics: Metrics;
}

/** @param askedAt monotonic time (ms) at which the arbiter was asked */
type OnCompleted = (completion: Completion, result: CompleteResult, askedAt: number) => void;

/**
 * @param onCompleted told what became of an outcome that had to wait for the arbiter
 * @throws IdempotencySetupError if the application lacks what an enabled tier needs
 */
export async function openTiers(sources: StoreSources, onCompleted: OnCompleted): Promise<Tiers> {
  const { settings, metrics } = sources;
  const own = sources.own?.open();
  if (own) {
    metrics.tierDisabled('redis');
    metrics.tierDisabled('postgres');
    return decidedBy('store', own, { retention: OWN_RETENTION, metrics, onCompleted });
  }
  const [postgres, redis] = await Promise.all([
    sources.postgres.open(),
    sources.redis.open(sources.postgres),
  ]);
  const ttl = settings.redis ? settings.redis.ttl : 0;
  if (!postgres) {
    if (!redis) throw new IdempotencySetupError('Redis and Postgres are both disabled.');
    return decidedBy('redis', redis, { retention: ttl, metrics, onCompleted });
  }
  const retention = settings.postgres ? settings.postgres.retention : ttl;
  const tiers = decidedBy('postgres', postgres, { retention, metrics, onCompleted });
  if (sources.postgres.silentAtStart) tiers.monitor.suspect();
  if (!redis) return tiers;
  redis.announce();
  const monitor = new StoreMonitor('redis', metrics);
  const cache = new RecordCache(redis, monitor, metrics, { ttl, retention }, (record) =>
    tiers.pending.complete({ claim: record, outcome: record.outcome }, retention),
  );
  return { ...tiers, cache };
}

interface Around {
  readonly retention: number;
  readonly metrics: Metrics;
  readonly onCompleted: OnCompleted;
}

function decidedBy(name: Tier, arbiter: Arbiter, { retention, metrics, onCompleted }: Around): Tiers {
  const monitor = new StoreMonitor(name, metrics, () => arbiter.find(PROBE));
  const monitored = {
    complete: (claim: Claim, outcome: Outcome) =>
      monitor.ask('complete', () => arbiter.complete(claim, outcome)),
    release: (claim: Claim) => monitor.ask('release', () => arbiter.release(claim)),
  };
  const pending = new PendingWrites(monitored, metrics, onCompleted);
  return { name, arbiter, monitor, cache: undefined, retention, pending };
}
