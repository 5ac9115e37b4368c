import { Inject, Injectable } from '@nestjs/common';
import { performance } from 'node:perf_hooks';
import { ForgottenRecordError, StoreUnavailableError } from '../core/errors';
import type { Metrics } from '../core/ports';
import {
  isOfClaim,
  isPending,
  type Claim,
  type CompletedRecord,
  type IdempotencyRecord,
  type Outcome,
  type RecordId,
} from '../core/record';
import type { RecordDirectory } from '../core/record-directory';
import type { ClaimRequest, ClaimResult, CompleteResult, IdempotencyStore, StorePhase } from '../core/store';
import type { BeginResult } from '../core/transaction';
import type { HealthReport } from '../observability/health';
import { IdempotencyMetrics } from '../observability/metrics';
import { MODULE_SETTINGS } from '../options/module-settings';
import type { ModuleSettings } from '../options/resolve';
import { ClaimOrder } from './claim-order';
import { OwnStoreProvider } from './own-store.provider';
import type { Completion } from './pending-writes';
import { PostgresProvider } from './postgres/postgres.provider';
import { copyToRemove, purge, type PurgeResult } from './purge';
import { RedisProvider } from './redis/redis.provider';
import { healthOf } from './store-monitor';
import { TieredClaims } from './tiered-claims';
import { openTiers, PROBE, type StoreSources, type Tiers } from './tiers';

/**
 * The one place that says what happens when a tier fails. Redis answers if it can, but only the arbiter lets a handler
 * run. An error is never turned into an absent record: a verb that the arbiter cannot answer rejects with
 * StoreUnavailableError, unless Redis can answer it safely.
 */
@Injectable()
export class TieredStoreService implements IdempotencyStore {
  private tiers!: Tiers;
  private claims!: TieredClaims;
  phase: StorePhase = 'new';
  private readonly order = new ClaimOrder();

  constructor(
    @Inject(MODULE_SETTINGS) private readonly settings: ModuleSettings,
    @Inject(RedisProvider) private readonly redis: StoreSources['redis'],
    @Inject(PostgresProvider) private readonly postgres: StoreSources['postgres'],
    @Inject(IdempotencyMetrics) private readonly metrics: Metrics,
    @Inject(OwnStoreProvider) private readonly own?: Pick<OwnStoreProvider, 'open'>,
  ) {}

  /** @throws IdempotencySetupError if the application lacks what an enabled tier needs */
  async open(): Promise<void> {
    try {
      const { settings, redis, postgres, own, metrics } = this;
      this.tiers = await openTiers(
        { settings, redis, postgres, own, metrics },
        (completion, result, askedAt) => this.copy(completion, result, askedAt),
      );
      this.claims = new TieredClaims(this.tiers, this.order, (claim, outcome) =>
        this.complete(claim, outcome),
      );
      this.phase = 'open';
    } catch (error) {
      await this.closeTiers();
      throw error;
    }
  }

  /** Gives the background writes a last try of `timeout` ms, then closes what the module opened. */
  async close(timeout: number): Promise<void> {
    const tiers = this.tiers as Tiers | undefined;
    tiers?.cache?.unmarkAll();
    tiers?.monitor.close();
    await tiers?.pending.stop(timeout);
    this.phase = 'closed';
    await this.closeTiers();
  }

  claim(request: ClaimRequest): Promise<ClaimResult> {
    return this.claims.claim(request);
  }

  /**
   * The handler has run: if the arbiter fails, the outcome is kept here and tried again. While the lease holds, a copy
   * in Redis may answer meanwhile; after that, another request may own the key.
   */
  async complete(
    claim: Claim,
    outcome: Outcome,
    heldUntil = (): number => Infinity,
  ): Promise<CompleteResult> {
    const completion = { claim, outcome };
    const { monitor, arbiter, cache } = this.tiers;
    cache?.unmark(claim);
    const askedAt = performance.now();
    try {
      const result = await arbiter.complete(claim, outcome);
      monitor.answered('complete', askedAt);
      this.copy(completion, result, askedAt);
      return result;
    } catch (reason) {
      return this.completeInCache(completion, monitor.failed('complete', askedAt, reason), heldUntil());
    }
  }

  /** @param held monotonic time (ms) until which no other request may own the key */
  private async completeInCache(
    completion: Completion,
    error: unknown,
    held: number,
  ): Promise<CompleteResult> {
    const { name, cache, pending, retention } = this.tiers;
    if (error instanceof ForgottenRecordError) throw new StoreUnavailableError(name, 'complete', error);
    pending.complete(completion, retention);
    const { claim, outcome } = completion;
    const heldByCache =
      performance.now() < held && (await cache?.putPendingOutcome(claim, outcome, held)) === true;
    if (heldByCache && performance.now() < held) return { recorded: true };
    if (error instanceof StoreUnavailableError) throw error;
    throw new StoreUnavailableError(name, 'complete', error);
  }

  async release(claim: Claim): Promise<boolean> {
    const { monitor, arbiter, cache, pending, retention } = this.tiers;
    cache?.unmark(claim);
    try {
      const released = await monitor.ask('release', () => arbiter.release(claim));
      // A retry at once should find the key free; a slow Redis is not a reason to hold the answer up.
      await cache?.putRemoved(claim);
      return released;
    } catch (error) {
      if (error instanceof StoreUnavailableError) pending.release(claim, retention);
      throw error;
    }
  }

  /** As {@link claim}, without a look at Redis first: an outcome that it has becomes that of an orphan taken over. */
  claimInArbiter(request: ClaimRequest): Promise<ClaimResult> {
    return this.claims.claimInArbiter(request);
  }

  /** @param begin begins a transaction in the arbiter's database */
  begin(id: RecordId, begin: () => Promise<BeginResult>): Promise<BeginResult> {
    return this.claims.begin(id, begin);
  }

  /** What the arbiter alone says. */
  findInArbiter(id: RecordId): Promise<IdempotencyRecord | undefined> {
    const { monitor, arbiter } = this.tiers;
    return monitor.ask('find', () => arbiter.find(id));
  }

  /**
   * What Redis alone says; undefined where it knows nothing, or is not a cache.
   * @throws StoreUnavailableError
   */
  async findInCache(id: RecordId): Promise<IdempotencyRecord | undefined> {
    return this.tiers.cache?.ask('find', (store) => store.find(id));
  }

  /** The outcome of a key, if Redis soon answers that it has a copy. */
  async findCopy(id: RecordId): Promise<CompletedRecord | undefined> {
    const read = this.tiers.cache?.read(id);
    const cached = read && (await read.early);
    return cached?.state === 'completed' && !cached.pending ? cached : undefined;
  }

  /**
   * What the arbiter holds now, for Redis.
   * @param askedAt monotonic time (ms) at which the arbiter was asked
   */
  copy({ claim, outcome }: Completion, result: CompleteResult, askedAt: number): void {
    this.order.record(claim.id);
    if (result.recorded) this.tiers.cache?.putOutcome(claim, outcome, askedAt);
    else this.tiers.cache?.fill(result.record, askedAt);
  }

  /** Undefined where the arbiter has none. */
  get directory(): RecordDirectory | undefined {
    return this.tiers.arbiter.directory;
  }

  renew(claims: readonly Claim[], lease: number): Promise<ReadonlySet<string>> {
    const { monitor, arbiter } = this.tiers;
    return monitor.ask('renew', async () => {
      const held: unknown = await arbiter.renew(claims, lease);
      if (held instanceof Set) return held as ReadonlySet<string>;
      // A list would fail only where leases are renewed, for no request and so for no answer to say it.
      throw new TypeError('renew() of a store has to give a Set of tokens');
    });
  }

  async find(id: RecordId): Promise<IdempotencyRecord | undefined> {
    const { cache, pending } = this.tiers;
    const read = cache?.read(id);
    const cached = read && (await read.early);
    if (cached?.state === 'completed' && !cached.pending) return cached;
    try {
      if (cached && isPending(cached)) await pending.settle(id);
      const askedAt = performance.now();
      const record = await this.findInArbiter(id);
      if (record) cache?.fill(record, askedAt);
      return record;
    } catch (error) {
      const late = error instanceof StoreUnavailableError ? await read?.answer : undefined;
      if (late) return late;
      throw error;
    }
  }

  /**
   * Redis is told first, so that no copy outlives the record.
   * @throws StoreUnavailableError also if only Redis cannot be told, and then nothing is deleted
   */
  async forget(claim: Claim): Promise<boolean> {
    const { monitor, arbiter, cache, pending } = this.tiers;
    await pending.settle(claim.id); // or it would come back
    const cached = await cache?.ask('find', (store) => store.find(claim.id));
    const standing = await this.findInArbiter(claim.id);
    if (standing?.state === 'in_progress' && standing.leaseRemaining > 0) return false;
    const removed = copyToRemove(claim, cached, standing);
    await cache?.ask('put', (store) => store.put({ claim: removed, state: 'removed' }));
    const forgotten = await monitor.ask('forget', () => arbiter.forget(claim));
    return forgotten || isOfClaim(cached, removed);
  }

  /** {@link forget} what either tier has of a key: a copy may have lost its row, as in a failover of Postgres. */
  async forgetKey(id: RecordId): Promise<boolean> {
    const record = (await this.findInArbiter(id)) ?? (await this.find(id));
    return record !== undefined && this.forget(record);
  }

  /**
   * Deletes records in both tiers, except those whose handler runs. A record whose copy in Redis cannot be reached is
   * left in the arbiter as well, so that it can be found again. Never rejects for a store that cannot be asked.
   */
  purge(claims: readonly Claim[]): Promise<PurgeResult> {
    return purge(this.tiers, claims);
  }

  /** Asks each tier over the path that requests take. */
  async health(): Promise<HealthReport> {
    const { name, monitor, arbiter, cache } = this.tiers;
    const decides = healthOf(monitor.ask('ping', () => arbiter.find(PROBE)));
    const copies = cache && healthOf(cache.ask('ping', (store) => store.find(PROBE)));
    if (name === 'redis') return { redis: await decides, postgres: 'disabled' };
    if (name === 'store') return { redis: 'disabled', postgres: 'disabled', store: await decides };
    return { redis: (await copies) ?? 'disabled', postgres: await decides };
  }

  private async closeTiers(): Promise<void> {
    await Promise.all([this.redis.close(), this.postgres.close()]);
  }
}
