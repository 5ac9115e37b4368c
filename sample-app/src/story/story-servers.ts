import { fork } from 'node:child_process';
import { once } from 'node:events';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { ConflictException, ServiceUnavailableException, type OnModuleDestroy } from '@nestjs/common';
import type { IdempotencyHealth, TierHealth } from 'nestjs-idempotency';
import type { RunningServer } from '../../../servers';
import { inTransaction } from '../handler-settings';
import type { OpenStores } from '../stores';
import { deliver, type Delivery } from './leados';
import type { WebhookDto } from './webhook.dto';

const START_TIMEOUT = 20_000;
const SETTLE_TIMEOUT = 15_000;
const POLL = 100;

/** What the page shows of a store. */
interface StoreState {
  readonly health: TierHealth;
  /** Why its buttons do nothing; undefined if they do something. */
  readonly untouchable: string | undefined;
}

export interface StoryState {
  readonly redis: StoreState;
  readonly postgres: StoreState & { readonly frozen: boolean };
  /** Why no instance can be killed; undefined if one can. */
  readonly instance: { readonly untouchable: string | undefined };
}

/** What the buttons of the page do to the servers that the sample has started. */
export class StoryServers implements OnModuleDestroy {
  private frozen = false;
  private lastChange: Promise<void> = Promise.resolve();

  constructor(
    private readonly stores: OpenStores,
    private readonly health: IdempotencyHealth,
  ) {}

  async state(): Promise<StoryState> {
    const { redis, postgres } = await this.health.check();
    if (postgres === 'up') this.frozen = false; // thawed from a shell
    return {
      redis: { health: redis, untouchable: this.withoutRedis() },
      postgres: { health: postgres, untouchable: this.withoutPostgres(), frozen: this.frozen },
      instance: {
        untouchable: inTransaction()
          ? undefined
          : 'With SAMPLE_TRANSACTION=false the killed instance leaves a lease, and its key waits up to 30 s for it.',
      },
    };
  }

  killRedis(): Promise<void> {
    return this.change(this.stores.redis, this.withoutRedis(), async (redis) => {
      redis.kill('SIGKILL');
      await this.until('redis', 'down');
    });
  }

  startRedis(): Promise<void> {
    return this.change(this.stores.redis, this.withoutRedis(), async (redis) => {
      if ((await this.health.check()).redis === 'up') return;
      await redis.restart();
      await this.until('redis', 'up');
    });
  }

  freezePostgres(): Promise<void> {
    return this.change(this.stores.postgres, this.withoutPostgres(), async (postgres) => {
      this.frozen = true;
      postgres.kill('SIGSTOP');
      await this.until('postgres', 'down');
    });
  }

  thawPostgres(): Promise<void> {
    return this.change(this.stores.postgres, this.withoutPostgres(), async (postgres) => {
      postgres.kill('SIGCONT');
      await this.until('postgres', 'up');
      this.frozen = false;
    });
  }

  /**
   * Sends a webhook to a second instance that is killed in its handler.
   * @throws ConflictException while Postgres is frozen; ServiceUnavailableException if the instance does not start
   */
  async killInstance(webhook: WebhookDto): Promise<Delivery> {
    if (this.frozen) throw new ConflictException('Postgres is frozen: thaw it first.');
    const { databaseUrl, redisUrl = '' } = this.stores;
    const instance = fork(require.resolve('./killed-instance'), {
      env: { ...process.env, DATABASE_URL: databaseUrl, REDIS_URL: redisUrl, HOST: '127.0.0.1' },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    try {
      const signal = AbortSignal.timeout(START_TIMEOUT);
      const ended = once(instance, 'exit', { signal }).then(() => [undefined]);
      const [base] = (await Promise.race([once(instance, 'message', { signal }), ended])) as [unknown];
      if (typeof base === 'string') return await deliver(base, webhook);
    } catch {
      // It has not started in time.
    } finally {
      instance.kill('SIGKILL');
    }
    throw new ServiceUnavailableException('The second instance did not start.');
  }

  /** A frozen server would keep the application's connections from closing, and outlive it. */
  onModuleDestroy(): void {
    this.stores.postgres?.kill('SIGCONT');
  }

  /** One after the other, in the order of the clicks. */
  private change(
    server: RunningServer | undefined,
    untouchable: string | undefined,
    work: (server: RunningServer) => Promise<void>,
  ): Promise<void> {
    if (!server) throw new ConflictException(untouchable);
    const done = this.lastChange.then(() => work(server));
    this.lastChange = done.catch(() => undefined);
    return done;
  }

  /** Waits until the module has noticed. */
  private async until(store: 'redis' | 'postgres', health: TierHealth): Promise<void> {
    const deadline = performance.now() + SETTLE_TIMEOUT;
    while ((await this.health.check())[store] !== health && performance.now() < deadline) await delay(POLL);
  }

  private withoutRedis(): string | undefined {
    const { redis, redisUrl } = this.stores;
    if (redis) return undefined;
    return redisUrl === undefined
      ? 'No Redis could be started on this machine, so Postgres does everything.'
      : 'REDIS_URL names this Redis. The page kills only one that the sample has started.';
  }

  private withoutPostgres(): string | undefined {
    if (this.stores.postgres) return undefined;
    return 'DATABASE_URL names this Postgres. The page freezes only one that the sample has started.';
  }
}
