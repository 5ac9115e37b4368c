import { Inject, Injectable } from '@nestjs/common';
import { performance } from 'node:perf_hooks';
import { IdempotencySetupError, StoreUnavailableError, UnrecordedOutcomeError } from '../core/errors';
import {
  isPending,
  recordId,
  type Claim,
  type IdempotencyRecord,
  type Outcome,
  type RecordId,
} from '../core/record';
import type { ClaimRequest, ClaimResult, CompleteResult, IdempotencyStore, StorePhase } from '../core/store';
import type { HealthReport } from '../observability/health';
import { IdempotencyMetrics } from '../observability/metrics';
import { MODULE_SETTINGS } from '../options/module-settings';
import type { ModuleSettings } from '../options/resolve';
import { hedged } from './cache-deadline';
import { InFlightMarkers } from './in-flight-markers';
import { PendingWrites, type Completion } from './pending-writes';
import { PostgresProvider } from './postgres/postgres.provider';
import type { PostgresStore } from './postgres/postgres.store';
import { RedisProvider } from './redis/redis.provider';
import type { CacheEntry, RedisStore } from './redis/redis.store';
import { healthOf, StoreMonitor } from './store-monitor';
import { fromCache, type Tiers } from './tiers';

/** Asks a store for a sign of life: no such record exists. */
const PROBE = recordId('health', 'probe');

/**
 * The one place that says what happens when a tier fails. Redis answers first if it can; whatever it says or fails
 * to say, only the arbiter lets a handler run. An error is never turned into an absent record: a verb that the
 * arbiter cannot answer rejects with StoreUnavailableError, unless Redis can answer it safely.
 */
@Injectable()
export class TieredStoreService implements IdempotencyStore {
  private tiers!: Tiers;
  phase: StorePhase = 'new';
  private readonly markers = new InFlightMarkers();

  constructor(
    @Inject(MODULE_SETTINGS) private readonly settings: ModuleSettings,
    private readonly redis: RedisProvider,
    private readonly postgres: PostgresProvider,
    private readonly metrics: IdempotencyMetrics,
  ) {}

  /** @throws IdempotencySetupError if the application lacks what an enabled tier needs */
  async open(): Promise<void> {
    try {
      const [postgres, redis] = await Promise.all([this.postgres.open(), this.redis.open(this.postgres)]);
      this.tiers = this.arrange(postgres, redis);
      this.phase = 'open';
    } catch (error) {
      await this.closeTiers();
      throw error;
    }
  }

  /** Gives the background writes a last try of `timeout` ms, then closes what the module opened. */
  async close(timeout: number): Promise<void> {
    this.markers.dropAll();
    (this.tiers as Tiers | undefined)?.monitor.close();
    await (this.tiers as Tiers | undefined)?.pending.stop(timeout);
    this.phase = 'closed';
    await this.closeTiers();
  }

  async claim(request: ClaimRequest): Promise<ClaimResult> {
    const cached = this.readCache(request.id);
    const early = await hedged(cached);
    if (early && !isPending(early) && this.canAnswerFromCache(early, request)) return fromCache(early);

    let result: ClaimResult;
    try {
      await this.settlePending(request.id);
      result = await this.askArbiter('claim', () => this.tiers.arbiter.claim(request));
    } catch (error) {
      if (!(error instanceof StoreUnavailableError)) throw error;
      // The claim may have landed although its reply was lost: nobody will run under it, so it goes back.
      if (error.operation === 'claim' && error.sent) {
        this.tiers.pending.release({ ...request, fence: 0, attempt: 0 }, this.tiers.retention);
      }
      const late = await cached;
      if (late && this.canAnswerFromCache(late, request)) return fromCache(late);
      throw error;
    }
    if (!result.claimed) {
      this.fillCache(result.record);
      return result;
    }
    const { claim } = result;
    const adopted = claim.attempt > 1 ? await this.adoptPendingOutcome(claim) : undefined;
    if (adopted) return { claimed: false, record: adopted };
    this.markInFlight(claim, request.lease);
    return result;
  }

  /**
   * The handler has run: whatever the arbiter fails with, its outcome is kept here and tried again. While the lease
   * holds, Redis may vouch for it meanwhile; after that, another request may own the key.
   */
  async complete(
    claim: Claim,
    outcome: Outcome,
    heldUntil = (): number => Infinity,
  ): Promise<CompleteResult> {
    const completion = { claim, outcome };
    this.markers.drop(claim.token);
    try {
      const result = await this.askArbiter('complete', () => this.tiers.arbiter.complete(claim, outcome));
      this.afterCompletion(completion, result);
      return result;
    } catch (error) {
      this.tiers.pending.complete(completion, this.tiers.retention);
      const held = heldUntil();
      const heldByCache = performance.now() < held && (await this.cachePendingOutcome(completion, held));
      if (heldByCache && performance.now() < held) return { recorded: true };
      if (error instanceof StoreUnavailableError) throw error;
      throw new StoreUnavailableError(this.tiers.name, 'complete', error);
    }
  }

  async release(claim: Claim): Promise<boolean> {
    this.markers.drop(claim.token);
    try {
      const released = await this.askArbiter('release', () => this.tiers.arbiter.release(claim));
      // A retry at once should find the key free; a slow Redis is no reason to hold the answer up.
      await hedged(this.write({ claim, state: 'removed' }));
      return released;
    } catch (error) {
      if (error instanceof StoreUnavailableError) this.tiers.pending.release(claim, this.tiers.retention);
      throw error;
    }
  }

  renew(claims: readonly Claim[], lease: number): Promise<ReadonlySet<string>> {
    return this.askArbiter('renew', () => this.tiers.arbiter.renew(claims, lease));
  }

  async find(id: RecordId): Promise<IdempotencyRecord | undefined> {
    const recalled = this.readCache(id);
    const cached = await hedged(recalled);
    if (cached?.state === 'completed' && !cached.pending) return cached;
    try {
      if (cached && isPending(cached)) await this.tiers.pending.settle(id);
      const record = await this.askArbiter('find', () => this.tiers.arbiter.find(id));
      if (record) this.fillCache(record);
      return record;
    } catch (error) {
      const late = error instanceof StoreUnavailableError ? await recalled : undefined;
      if (late) return late;
      throw error;
    }
  }

  /**
   * Redis is told first, so that no copy outlives the record.
   * @throws StoreUnavailableError also if only Redis cannot be told, and then nothing is deleted
   */
  async forget(claim: Claim): Promise<boolean> {
    await this.tiers.pending.settle(claim.id); // or it would come back
    const cached = await this.askCache('find', (store) => store.find(claim.id));
    const standing = await this.askArbiter('find', () => this.tiers.arbiter.find(claim.id));
    if (standing?.state === 'in_progress' && standing.leaseRemaining > 0) return false;
    await this.askCache('remember', (store) => store.remember({ claim, state: 'removed' }));
    const forgotten = await this.askArbiter('forget', () => this.tiers.arbiter.forget(claim));
    return forgotten || cached?.token === claim.token;
  }

  /** Asks each tier over the path that requests take. */
  async health(): Promise<HealthReport> {
    const arbiter = healthOf(this.askArbiter('ping', () => this.tiers.arbiter.find(PROBE)));
    const cache = this.tiers.cache && healthOf(this.askCache('ping', (store) => store.find(PROBE)));
    if (this.tiers.name === 'redis') return { redis: await arbiter, postgres: 'disabled' };
    return { redis: (await cache) ?? 'disabled', postgres: await arbiter };
  }

  private arrange(postgres: PostgresStore | undefined, redis: RedisStore | undefined): Tiers {
    const { metrics, settings } = this;
    const arbiter: IdempotencyStore | undefined = postgres ?? redis;
    if (!arbiter) throw new IdempotencySetupError('Redis and Postgres are both disabled.');
    const name = postgres ? 'postgres' : 'redis';
    const gate = new StoreMonitor(name, metrics, () => arbiter.find(PROBE));
    const ttl = settings.redis ? settings.redis.ttl : 0;
    const retention = settings.postgres ? settings.postgres.retention : ttl;
    const gated = {
      complete: (claim: Claim, outcome: Outcome) =>
        gate.ask('complete', () => arbiter.complete(claim, outcome)),
      release: (claim: Claim) => gate.ask('release', () => arbiter.release(claim)),
    };
    if (this.postgres.silentAtStart) gate.suspect();
    const pending = new PendingWrites(gated, metrics, (completion, result) =>
      this.afterCompletion(completion, result),
    );
    const cache = postgres && redis && { store: redis, gate: new StoreMonitor('redis', metrics), ttl };
    return { name, arbiter, monitor: gate, cache, retention, pending };
  }

  private async closeTiers(): Promise<void> {
    await Promise.all([this.redis.close(), this.postgres.close()]);
  }

  /** A finished record, or a hint that this very request is in flight, needs no arbiter. */
  private canAnswerFromCache(record: IdempotencyRecord, request: ClaimRequest): boolean {
    if (record.state === 'completed') return true;
    // The arbiter decides about another fingerprint: the hint may be of a claim that has been given back since.
    const another = record.token !== request.token && record.fingerprint === request.fingerprint;
    return !request.bypassCache && another && record.leaseRemaining > 0;
  }

  /**
   * An owner that could not reach Postgres has left its outcome in Redis: it becomes that of the claim which has taken
   * its key over. Redis is asked after the takeover, as until then the owner could renew its lease and leave one; and
   * it gets its full timeout.
   */
  private async adoptPendingOutcome(claim: Claim): Promise<IdempotencyRecord | undefined> {
    const left = await this.askCache('find', (store) => store.find(claim.id)).catch(() => undefined);
    if (left?.state !== 'completed' || left.fingerprint !== claim.fingerprint) return undefined;
    try {
      const result = await this.complete(claim, left.outcome);
      return result.recorded ? left : result.record;
    } catch (error) {
      if (!(error instanceof StoreUnavailableError)) throw error;
      return left; // it waits for Postgres in memory now
    }
  }

  /** What Redis knows; undefined if it knows nothing, failed, or is bypassed. Never rejects. */
  private readCache(id: RecordId): Promise<IdempotencyRecord | undefined> {
    return this.askCache('find', (store) => store.find(id)).then(
      (record) => {
        // Whoever made this outcome could not bring it to Postgres, and may be gone.
        if (record?.state === 'completed' && record.pending) {
          this.tiers.pending.complete({ claim: record, outcome: record.outcome }, this.tiers.retention);
        }
        return record;
      },
      () => undefined,
    );
  }

  private afterCompletion({ claim, outcome }: Completion, result: CompleteResult): void {
    if (result.recorded) this.cacheOutcome(claim, outcome);
    else this.fillCache(result.record);
  }

  /** At once where the key was taken over, as its fence keeps out what an earlier owner may still write. */
  private markInFlight(claim: Claim, lease: number): void {
    const write = (remaining: number): void => {
      const leaseUntil = performance.now() + remaining;
      void this.write({ claim, state: 'in_progress', lease: remaining }, leaseUntil);
    };
    if (claim.attempt > 1) write(lease);
    else if (this.tiers.cache) this.markers.schedule(claim.token, lease, write);
  }

  /**
   * Makes Redis agree with what the arbiter holds. The hint of a takeover is left to its owner, who looks first for an
   * outcome that the hint would bury.
   */
  private fillCache(record: IdempotencyRecord): void {
    if (record.tier === 'redis') return;
    // What cannot be read here may be readable elsewhere, or once it is mended: no tombstone may stand in for it.
    if (record.state === 'completed' && record.unreadable) return;
    if (record.state === 'completed') this.cacheOutcome(record, record.outcome, record.expiresIn);
    else if (record.leaseRemaining > 0 && record.attempt === 1) {
      void this.write({ claim: record, state: 'in_progress', lease: Math.ceil(record.leaseRemaining) });
    }
  }

  private cacheOutcome(claim: Claim, outcome: Outcome, expiresIn = this.tiers.retention): void {
    const ttl = Math.floor(Math.min(this.tiers.cache?.ttl ?? 0, expiresIn));
    if (ttl > 0) void this.write({ claim, state: 'completed', outcome, pending: false, ttl });
  }

  /** True once Redis has the outcome that Postgres could not take; it may be the only copy, so it stays for long. */
  private cachePendingOutcome({ claim, outcome }: Completion, heldUntil: number): Promise<boolean> {
    const entry = { claim, state: 'completed', outcome, pending: true, ttl: this.tiers.retention } as const;
    return this.write(entry, heldUntil);
  }

  /** False if Redis did not take it; but for a pending outcome that costs a read of Postgres later, nothing else. */
  private write(entry: CacheEntry, notAfter?: number): Promise<boolean> {
    return this.askCache('remember', (store) => store.remember(entry, notAfter)).then(
      (stands) => stands === true,
      () => false,
    );
  }

  /**
   * Brings an outcome of this key that waits in memory to the arbiter.
   * @throws UnrecordedOutcomeError if it still cannot be brought there: its handler has run
   */
  private async settlePending(id: RecordId): Promise<void> {
    if (!this.tiers.pending.holds(id)) return;
    await this.tiers.pending.settle(id).catch((error: unknown) => {
      throw error instanceof StoreUnavailableError ? new UnrecordedOutcomeError(error) : error;
    });
  }

  private askArbiter<T>(operation: string, call: () => Promise<T>): Promise<T> {
    return this.tiers.monitor.ask(operation, call);
  }

  private askCache<T>(operation: string, call: (store: RedisStore) => Promise<T>): Promise<T | undefined> {
    const { cache } = this.tiers;
    if (!cache) return Promise.resolve(undefined);
    if (!cache.store.available) {
      this.metrics.storeError('redis');
      const reason = 'it is bypassed until it answers a probe';
      return Promise.reject(new StoreUnavailableError('redis', operation, reason, false));
    }
    return cache.gate.ask(operation, () => call(cache.store));
  }
}
