import { Inject, Injectable } from '@nestjs/common';
import { setTimeout as delay } from 'node:timers/promises';
import { IdempotencySetupError, StoreUnavailableError } from '../core/errors';
import {
  isOrphaned,
  recordId,
  type Claim,
  type IdempotencyRecord,
  type Outcome,
  type RecordId,
} from '../core/record';
import type { ClaimRequest, ClaimResult, CompleteResult, IdempotencyStore } from '../core/store';
import type { HealthReport, TierHealth } from '../observability/health';
import { IdempotencyMetrics } from '../observability/metrics';
import { MODULE_SETTINGS } from '../options/module-settings';
import type { ModuleSettings } from '../options/resolve';
import { PendingWrites } from './pending-writes';
import { PostgresProvider } from './postgres/postgres.provider';
import { RedisProvider } from './redis/redis.provider';
import type { CacheEntry, RedisStore } from './redis/redis.store';
import { TierGate } from './tier';

interface Tiers {
  readonly name: 'postgres' | 'redis';
  /** The only store whose answer may let a handler run. */
  readonly arbiter: IdempotencyStore;
  readonly gate: TierGate;
  /** Finished responses and in-flight hints, kept for `ttl` ms; may be empty, stale or gone. */
  readonly cache: { readonly store: RedisStore; readonly gate: TierGate; readonly ttl: number } | undefined;
  /** Milliseconds for which an outcome that the arbiter could not take is tried again. */
  readonly retention: number;
  readonly pending: PendingWrites;
}

/** How long a request waits for Redis before it asks Postgres as well. Measured replays from a healthy Redis take under 1 ms. */
const HEDGE = 20;

/**
 * The one place that says what happens when a tier fails. Redis answers first if it can; whatever it says or fails
 * to say, only the arbiter lets a handler run. An error is never turned into an absent record: a verb that the
 * arbiter cannot answer rejects with StoreUnavailableError, unless Redis can answer it safely.
 */
@Injectable()
export class TieredStoreService implements IdempotencyStore {
  private tiers!: Tiers;

  constructor(
    @Inject(MODULE_SETTINGS) private readonly settings: ModuleSettings,
    private readonly redis: RedisProvider,
    private readonly postgres: PostgresProvider,
    private readonly metrics: IdempotencyMetrics,
  ) {}

  /** @throws IdempotencySetupError if the application lacks what an enabled tier needs */
  async open(): Promise<void> {
    const { metrics, settings } = this;
    const [postgres, redis] = await Promise.all([this.postgres.open(), this.redis.open()]);
    const arbiter: IdempotencyStore | undefined = postgres ?? redis;
    const ttl = settings.redis ? settings.redis.ttl : 0;
    const retention = settings.postgres ? settings.postgres.retention : ttl;
    if (!arbiter) throw new IdempotencySetupError('Redis and Postgres are both disabled.');
    const name = postgres ? 'postgres' : 'redis';
    const gate = new TierGate(name, metrics);
    const gated = {
      complete: (claim: Claim, outcome: Outcome) =>
        gate.ask('complete', () => arbiter.complete(claim, outcome)),
      release: (claim: Claim) => gate.ask('release', () => arbiter.release(claim)),
    };
    const pending = new PendingWrites(gated, metrics, (claim, outcome) =>
      this.rememberOutcome(claim, outcome),
    );
    const cache = postgres && redis && { store: redis, gate: new TierGate('redis', metrics), ttl };
    this.tiers = { name, arbiter, gate, cache, retention, pending };
  }

  /** Gives the background writes a last try of `timeout` ms, then closes what the module opened. */
  async close(timeout: number): Promise<void> {
    await this.tiers.pending.stop(timeout);
    await Promise.all([this.redis.close(), this.postgres.close()]);
  }

  async claim(request: ClaimRequest): Promise<ClaimResult> {
    const cached = this.recall(request.id);
    const early = await Promise.race([cached, delay(HEDGE, undefined, { ref: false })]);
    if (early && this.answers(early, request)) return { claimed: false, record: early };

    let result: ClaimResult;
    try {
      result = await this.askArbiter('claim', () =>
        this.tiers.arbiter.claim({ ...request, takeOver: false }),
      );
      if (request.takeOver && !result.claimed && isOrphaned(result.record)) {
        result = await this.takeOver(request, result.record);
      }
    } catch (error) {
      if (!(error instanceof StoreUnavailableError)) throw error;
      // The claim may have landed although its reply was lost: nobody will run under it, so it goes back.
      this.tiers.pending.add({ ...request, fence: 0, attempt: 0 }, undefined, this.tiers.retention);
      const late = await cached;
      if (late && this.answers(late, request)) return { claimed: false, record: late };
      throw error;
    }
    this.refill(result, request.lease);
    return result;
  }

  async complete(claim: Claim, outcome: Outcome): Promise<CompleteResult> {
    try {
      const result = await this.askArbiter('complete', () => this.tiers.arbiter.complete(claim, outcome));
      if (result.recorded) this.rememberOutcome(claim, outcome);
      else this.refill({ claimed: false, record: result.record }, 0);
      return result;
    } catch (error) {
      if (!(error instanceof StoreUnavailableError)) throw error;
      this.tiers.pending.add(claim, outcome, this.tiers.retention);
      if (await this.rememberPending(claim, outcome)) return { recorded: true };
      throw error;
    }
  }

  async release(claim: Claim): Promise<boolean> {
    try {
      const released = await this.askArbiter('release', () => this.tiers.arbiter.release(claim));
      await this.write({ claim, state: 'removed' });
      return released;
    } catch (error) {
      if (error instanceof StoreUnavailableError)
        this.tiers.pending.add(claim, undefined, this.tiers.retention);
      throw error;
    }
  }

  renew(claims: readonly Claim[], lease: number): Promise<ReadonlySet<string>> {
    return this.askArbiter('renew', () => this.tiers.arbiter.renew(claims, lease));
  }

  async find(id: RecordId): Promise<IdempotencyRecord | undefined> {
    const cached = await this.recall(id);
    if (cached?.state === 'completed') return cached;
    try {
      const record = await this.askArbiter('find', () => this.tiers.arbiter.find(id));
      if (record?.state === 'completed') this.refill({ claimed: false, record }, 0);
      return record;
    } catch (error) {
      if (cached && error instanceof StoreUnavailableError) return cached;
      throw error;
    }
  }

  /**
   * Redis is told first, so that no copy outlives the record.
   * @throws StoreUnavailableError also if only Redis cannot be told, and then nothing is deleted
   */
  async forget(id: RecordId): Promise<boolean> {
    const cached = await this.askCache('find', (store) => store.find(id));
    const record = (await this.askArbiter('find', () => this.tiers.arbiter.find(id))) ?? cached;
    if (!record || (record.state === 'in_progress' && record.leaseRemaining > 0)) return false;
    await this.askCache('remember', (store) => store.remember({ claim: record, state: 'removed' }));
    return (await this.askArbiter('forget', () => this.tiers.arbiter.forget(id))) || cached !== undefined;
  }

  /** Asks each tier over the path that requests take. */
  async health(): Promise<HealthReport> {
    const probe = recordId('health', 'probe');
    const up = (answer: Promise<unknown>): Promise<TierHealth> =>
      answer.then(
        () => 'up' as const,
        () => 'down' as const,
      );
    const arbiter = up(this.askArbiter('ping', () => this.tiers.arbiter.find(probe)));
    const cache = this.tiers.cache && up(this.askCache('ping', (store) => store.find(probe)));
    if (this.tiers.name === 'redis') return { redis: await arbiter, postgres: 'disabled' };
    return { redis: (await cache) ?? 'disabled', postgres: await arbiter };
  }

  /** A finished record, or a hint that this very request is in flight, needs no arbiter. */
  private answers(record: IdempotencyRecord, request: ClaimRequest): boolean {
    if (record.state === 'completed') return true;
    // The arbiter decides about another fingerprint: the hint may be of a claim that has been given back since.
    return record.leaseRemaining > 0 && record.fingerprint === request.fingerprint;
  }

  private async takeOver(request: ClaimRequest, orphan: IdempotencyRecord): Promise<ClaimResult> {
    // An owner that could not reach Postgres has left its outcome in Redis: worth the full Redis timeout to know.
    const cached = await this.recall(request.id);
    if (cached?.state === 'completed' && cached.fence >= orphan.fence)
      return { claimed: false, record: cached };
    return this.askArbiter('claim', () => this.tiers.arbiter.claim(request));
  }

  /** What Redis knows; undefined if it knows nothing, failed, or is bypassed. Never rejects. */
  private async recall(id: RecordId): Promise<IdempotencyRecord | undefined> {
    const record = await this.askCache('find', (store) => store.find(id)).catch(() => undefined);
    if (record?.state === 'completed' && record.pending)
      this.tiers.pending.add(record, record.outcome, this.tiers.retention);
    return record;
  }

  private refill(result: ClaimResult, lease: number): void {
    if (result.claimed) {
      void this.write({ claim: result.claim, state: 'in_progress', lease });
    } else if (result.record.state === 'completed') {
      if (result.record.tier === 'redis') return;
      this.rememberOutcome(result.record, result.record.outcome, result.record.expiresIn);
    }
  }

  private rememberOutcome(claim: Claim, outcome: Outcome, expiresIn = Infinity): void {
    const ttl = Math.floor(Math.min(this.tiers.cache?.ttl ?? 0, expiresIn));
    if (ttl > 0) void this.write({ claim, state: 'completed', outcome, pending: false, ttl });
  }

  /** True once Redis has the outcome that Postgres could not take. */
  private async rememberPending(claim: Claim, outcome: Outcome): Promise<boolean> {
    if (!this.tiers.cache) return false;
    return this.write({ claim, state: 'completed', outcome, pending: true, ttl: this.tiers.cache.ttl });
  }

  /** False if Redis did not take it; that costs a read of Postgres later, nothing else. */
  private async write(entry: CacheEntry): Promise<boolean> {
    return this.askCache('remember', (store) => store.remember(entry)).then(
      () => true,
      () => false,
    );
  }

  private askArbiter<T>(operation: string, call: () => Promise<T>): Promise<T> {
    return this.tiers.gate.ask(operation, call);
  }

  private async askCache<T>(
    operation: string,
    call: (store: RedisStore) => Promise<T>,
  ): Promise<T | undefined> {
    const { cache } = this.tiers;
    if (!cache) return undefined;
    if (!cache.store.available) {
      throw new StoreUnavailableError('redis', operation, 'it is bypassed until it answers a probe');
    }
    return cache.gate.ask(operation, () => call(cache.store));
  }
}
