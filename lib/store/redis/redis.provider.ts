import { Inject, Injectable } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { getRedisConnectionToken } from '@nestjs-modules/ioredis';
import type { Cluster, Redis } from 'ioredis';
import { IdempotencySetupError } from '../../core/errors';
import { sealOf } from '../../core/seal';
import { IdempotencyMetrics } from '../../observability/metrics';
import { MODULE_SETTINGS } from '../../options/module-settings';
import type { ModuleSettings } from '../../options/resolve';
import { RedisConnection } from './redis.connection';
import { RedisStore } from './redis.store';

/** Opens the Redis store over a dedicated duplicate of the application's `@nestjs-modules/ioredis` connection. */
@Injectable()
export class RedisProvider {
  private connection: RedisConnection | undefined;

  constructor(
    @Inject(MODULE_SETTINGS) private readonly settings: ModuleSettings,
    private readonly moduleRef: ModuleRef,
    private readonly metrics: IdempotencyMetrics,
  ) {}

  /**
   * Undefined if Redis is disabled. A Redis that is down does not stop the start: it is bypassed until it answers.
   * @throws IdempotencySetupError if the application has no such connection
   */
  async open(): Promise<RedisStore | undefined> {
    const { redis, encryption, bounds } = this.settings;
    if (!redis) {
      this.metrics.tierDisabled('redis');
      return undefined;
    }
    this.connection = new RedisConnection(this.applicationClient(redis.connection), {
      timeout: redis.timeout,
      onAvailabilityChange: (up) => this.metrics.tierUp('redis', up),
    });
    await this.connection.open();
    const { keyPrefix, ttl } = redis;
    return new RedisStore({
      connection: this.connection,
      keyPrefix,
      ttl,
      seal: sealOf(encryption),
      maxQueuedClaims: bounds.maxQueuedClaims,
    });
  }

  /** Closes our own connection; the application's stays as it is. */
  async close(): Promise<void> {
    await this.connection?.close();
  }

  private applicationClient(name: string | undefined): Redis | Cluster {
    try {
      return this.moduleRef.get<Redis | Cluster>(getRedisConnectionToken(name), { strict: false });
    } catch (cause) {
      const which = name ? `Redis connection named "${name}"` : 'default Redis connection';
      throw new IdempotencySetupError(
        `there is no ${which}. Import RedisModule.forRoot() of @nestjs-modules/ioredis, name another with ` +
          '`redis: { connection }`, or run on Postgres alone with `redis: false`.',
        { cause },
      );
    }
  }
}
