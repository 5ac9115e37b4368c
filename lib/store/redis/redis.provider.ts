import { Inject, Injectable } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { Digest } from '../../core/digest';
import { IdempotencySetupError, unlessUnavailable } from '../../core/errors';
import { loadNeeded } from '../../core/optional-package';
import type { Metrics } from '../../core/ports';
import { outcomeCipherOf } from '../../outcome/outcome-cipher';
import { IdempotencyMetrics } from '../../observability/metrics';
import { MODULE_SETTINGS } from '../../options/module-settings';
import type { ModuleSettings, RedisSettings } from '../../options/resolve';
import { ArbiterKeySpace, TableKeySpace, type KeySpace } from './key-space';
import type { RedisClient } from './connection/fail-fast.client';
import { RedisConnection } from './connection/redis.connection';
import { RedisStore } from './redis.store';

/** Opens the Redis store over a dedicated duplicate of the application's client: its own, or one of `@nestjs-modules/ioredis`. */
@Injectable()
export class RedisProvider {
  private connection: RedisConnection | undefined;

  constructor(
    @Inject(MODULE_SETTINGS) private readonly settings: ModuleSettings,
    private readonly moduleRef: ModuleRef,
    @Inject(IdempotencyMetrics) private readonly metrics: Metrics,
    private readonly digest: Digest,
  ) {}

  /**
   * Undefined if Redis is disabled. A Redis that is down does not stop startup: it is bypassed until it answers.
   * @param table says which one is cached, as soon as that is known
   * @throws IdempotencySetupError if the application has no such connection, or, where Redis decides alone, if the
   * records there are made with another secret
   */
  async open(table: { readonly tableTag: string | undefined }): Promise<RedisStore | undefined> {
    const { redis, encryption, bounds } = this.settings;
    if (!redis) {
      this.metrics.tierDisabled('redis');
      return undefined;
    }
    this.connection = new RedisConnection(this.applicationClient(redis), {
      timeout: redis.timeout,
      onAvailabilityChange: (up) => {
        this.metrics.tierUp('redis', up);
        if (up) space.announce();
        else space.forget();
      },
    });
    const { connection, digest } = this;
    const { keyPrefix, ttl } = redis;
    const place = { connection, keyPrefix, digest };
    const copies = this.settings.postgres && new TableKeySpace(place, () => table.tableTag);
    const space: KeySpace = copies || new ArbiterKeySpace(place, ttl);
    await connection.open();
    await (copies ? copies.ask() : space.confirm()).catch(unlessUnavailable);
    return new RedisStore({
      connection,
      keyPrefix,
      space,
      ttl,
      cipher: outcomeCipherOf(encryption),
      maxQueuedClaims: bounds.maxQueuedClaims,
    });
  }

  /** Closes our own connection; the application's stays as it is. */
  async close(): Promise<void> {
    await this.connection?.close();
  }

  private applicationClient({ client, connection: name }: RedisSettings): RedisClient {
    if (client) return client as RedisClient;
    const { getRedisConnectionToken } = loadNeeded(
      () => require('@nestjs-modules/ioredis') as typeof import('@nestjs-modules/ioredis'),
      'Redis is reached by a connection of @nestjs-modules/ioredis: run `npm install @nestjs-modules/ioredis ioredis`, ' +
        'pass a client of ioredis with `redis: { client }`, or run on Postgres alone with `redis: false`.',
    );
    try {
      return this.moduleRef.get<RedisClient>(getRedisConnectionToken(name), { strict: false });
    } catch (cause) {
      const which = name ? `Redis connection named "${name}"` : 'default Redis connection';
      throw new IdempotencySetupError(
        `there is no ${which}. Import RedisModule.forRoot() of @nestjs-modules/ioredis, name another with ` +
          '`redis: { connection }`, pass a client with `redis: { client }`, or run on Postgres alone with `redis: false`.',
        { cause },
      );
    }
  }
}
