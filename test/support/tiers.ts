import Redis from 'ioredis';
import type { Pool } from 'pg';
import { setTimeout as delay } from 'node:timers/promises';
import { StoreUnavailableError } from '../../lib/core/errors';
import type { IdempotencyService } from '../../lib/idempotency.service';
import { ProtocolService } from '../../lib/protocol.service';
import { Protocol } from '../../lib/core/protocol';
import { outcomeCipherOf } from '../../lib/outcome/outcome-cipher';
import type { Metrics, RequestObserver } from '../../lib/core/ports';
import type { IdempotencyModuleOptions } from '../../lib/options/idempotency.options';
import { resolveModuleOptions } from '../../lib/options/resolve';
import { applicationPool, type ApplicationPool } from '../../lib/store/postgres/connection/pool';
import { PostgresConnection } from '../../lib/store/postgres/connection/postgres.connection';
import type { PostgresProvider } from '../../lib/store/postgres/postgres.provider';
import { PostgresStore } from '../../lib/store/postgres/postgres.store';
import { configuredPlace, PLAIN_PLACE, tableNames } from '../../lib/store/postgres/schema/table-name';
import { RedisConnection } from '../../lib/store/redis/connection/redis.connection';
import { RedisStore } from '../../lib/store/redis/redis.store';
import { TieredStoreService } from '../../lib/store/tiered-store.service';
import type { DataSource } from 'typeorm';

/** What can be done to one tier of one process; its real store stays behind it. */
export interface Cut {
  /** No operation reaches the store. */
  off: boolean;
  /** Every operation takes this many ms longer. */
  slowBy?: number;
  /** Operations of this name take effect, but their replies are lost. */
  loseReplyOf?: string;
}

/** The tiers and the protocol of one process, as the module wires them, with a cut in front of each real store. */
export interface Process {
  readonly store: TieredStoreService;
  readonly service: IdempotencyService;
  readonly postgres: Cut;
  readonly redis: Cut;
  /** Operations asked of each tier so far, such as `postgres.claim`. */
  readonly calls: Readonly<Record<string, number>>;
  /** Outcomes and releases that wait for Postgres. */
  pending(): number;
  close(): Promise<void>;
}

/** @param database as the application reaches it */
export async function openProcess(
  database: DataSource | Pool,
  redisUrl: string,
  options: IdempotencyModuleOptions = {},
): Promise<Process> {
  const settings = resolveModuleOptions(options);
  if (!settings.postgres) throw new Error('Postgres is needed');
  const ttl = settings.redis ? settings.redis.ttl : 0;
  const cipher = outcomeCipherOf(settings.encryption);
  let pending = 0;
  const metrics = new Proxy(
    {},
    {
      get: (_, name) => (name === 'pendingWrite' ? (change: number) => (pending += change) : () => undefined),
    },
  ) as Metrics & RequestObserver;
  const calls: Record<string, number> = {};
  const cuts: Record<'postgres' | 'redis', Cut> = { postgres: { off: false }, redis: { off: false } };

  const byTypeOrm = 'driver' in database;
  const names = tableNames(byTypeOrm ? configuredPlace(database) : PLAIN_PLACE);
  const pool = byTypeOrm ? applicationPool(database) : (database as unknown as ApplicationPool);
  const postgres = new PostgresConnection(pool, { timeout: 5_000, poolSize: 4 });
  const application = new Redis(redisUrl, { lazyConnect: true });
  const redis = new RedisConnection(application, { timeout: 2_000, onAvailabilityChange: () => undefined });
  await redis.open();

  const cut = <S extends object>(tier: 'postgres' | 'redis', store: S): S =>
    new Proxy(store, {
      get: (target, name: string) => {
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== 'function') return name === 'available' ? member && !cuts[tier].off : member;
        return async (...args: unknown[]): Promise<unknown> => {
          const operation = `${tier}.${name}`;
          calls[operation] = (calls[operation] ?? 0) + 1;
          if (cuts[tier].off) throw new StoreUnavailableError(tier, name, 'cut off', false);
          if (cuts[tier].slowBy) await delay(cuts[tier].slowBy);
          const answer: unknown = await Reflect.apply(member, target, args);
          if (cuts[tier].loseReplyOf === name) throw new StoreUnavailableError(tier, name, 'reply lost');
          return answer;
        };
      },
    });
  const postgresStore = cut(
    'postgres',
    new PostgresStore(postgres, names, { retention: settings.postgres.retention, cipher }),
  );
  const redisStore = cut('redis', new RedisStore({ connection: redis, keyPrefix: 'test:', ttl, cipher }));
  const store = new TieredStoreService(
    settings,
    {
      open: async () => (settings.redis ? redisStore : undefined),
      close: () => redis.close(),
    },
    { open: async () => postgresStore, close: () => postgres.close() } as unknown as PostgresProvider,
    metrics,
  );
  await store.open();
  const protocol = new Protocol(store, metrics, settings.bounds);
  return {
    store,
    service: new ProtocolService(protocol, store, settings),
    postgres: cuts.postgres,
    redis: cuts.redis,
    calls,
    pending: () => pending,
    close: async () => {
      await protocol.drain(100);
      await store.close(100);
      application.disconnect();
    },
  };
}
