import { performance } from 'node:perf_hooks';
import { StoreUnavailableError } from '../core/errors';
import type { Metrics } from '../core/ports';
import {
  isUnreadable,
  type Claim,
  type CompletedRecord,
  type IdempotencyRecord,
  type Outcome,
  type RecordId,
} from '../core/record';
import { hedged, type Hedged } from './cache-deadline';
import { InFlightMarkers } from './in-flight-markers';
import type { CacheEntry, RedisStore } from './redis/redis.store';
import type { StoreMonitor } from './store-monitor';

/** Milliseconds. */
export interface CacheLifetimes {
  /** Of a copy. */
  readonly ttl: number;
  /** Of an outcome that the arbiter does not have yet: the copy may be the only one. */
  readonly retention: number;
}

/** What Redis knows of a key, as far as it answers. */
export type CacheRead = Hedged<IdempotencyRecord | undefined>;

/**
 * Milliseconds after the arbiter was asked for a record until when it may be copied. The mark that a record was deleted
 * stays twice as long, so that a process which froze in between cannot bring a copy back.
 */
const COPIED_WITHIN = 30_000;

/**
 * Copies in Redis of what the arbiter has decided. A copy that is missing costs a read of the arbiter and nothing else,
 * so writes do not reject; while Redis is bypassed they are left out, which counts as an error of Redis.
 */
export class RecordCache {
  private readonly markers = new InFlightMarkers();

  constructor(
    private readonly store: RedisStore,
    private readonly monitor: StoreMonitor,
    private readonly metrics: Metrics,
    private readonly lifetimes: CacheLifetimes,
    /** Told of each outcome that is read, and that the arbiter could not take: its process may have ended. */
    private readonly onPending: (record: CompletedRecord) => void,
  ) {}

  /** What Redis knows; undefined if it knows nothing or fails. Without a promise if it is bypassed. Never rejects. */
  read(id: RecordId): CacheRead | undefined {
    if (this.isBypassed()) return undefined;
    const askedAt = performance.now();
    return hedged(() =>
      this.store.find(id).then(
        (record) => {
          this.monitor.answered('find', askedAt);
          if (record?.state === 'completed' && record.pending) this.onPending(record);
          return record;
        },
        (error: unknown) => {
          this.monitor.failed('find', askedAt, error);
          return undefined;
        },
      ),
    );
  }

  /** Whether Redis may know outcomes that the arbiter lacks. */
  get mayHoldMore(): boolean {
    return this.store.mayHoldMore;
  }

  /** @throws StoreUnavailableError if Redis cannot be asked */
  ask<T>(operation: string, call: (store: RedisStore) => Promise<T>): Promise<T> {
    if (!this.isBypassed()) return this.monitor.ask(operation, () => call(this.store));
    const reason = 'it is bypassed until it answers a probe';
    return Promise.reject(new StoreUnavailableError('redis', operation, reason, false));
  }

  /**
   * Makes Redis agree with what the arbiter holds. The hint of a takeover is left to its owner, who looks first for an
   * outcome that the hint would bury.
   * @param askedAt monotonic time (ms) at which the arbiter was asked for it
   */
  fill(record: IdempotencyRecord, askedAt: number): void {
    if (record.tier === 'redis') return;
    // What cannot be read here may be readable by another process, or later: no tombstone may stand in for it.
    if (record.state === 'completed' && isUnreadable(record.outcome)) return;
    if (record.state === 'completed') this.putOutcome(record, record.outcome, askedAt, record.expiresIn);
    else if (record.leaseRemaining > 0 && record.attempt === 1)
      this.write(
        { claim: record, state: 'in_progress', lease: Math.ceil(record.leaseRemaining) },
        askedAt + COPIED_WITHIN,
      );
  }

  /** @param askedAt monotonic time (ms) at which the arbiter was asked to record it, or for it */
  putOutcome(claim: Claim, outcome: Outcome, askedAt: number, expiresIn = this.lifetimes.retention): void {
    const ttl = Math.floor(Math.min(this.lifetimes.ttl, expiresIn));
    if (ttl > 0)
      this.write({ claim, state: 'completed', outcome, pending: false, ttl }, askedAt + COPIED_WITHIN);
  }

  /** True once Redis has the outcome that the arbiter could not take. */
  putPendingOutcome(claim: Claim, outcome: Outcome, heldUntil: number): Promise<boolean> {
    const ttl = this.lifetimes.retention;
    return new Promise((resolve) =>
      this.write({ claim, state: 'completed', outcome, pending: true, ttl }, heldUntil, resolve),
    );
  }

  /** Resolves once Redis knows that the claim was released, or does not soon answer. */
  async putRemoved(claim: Claim): Promise<void> {
    const entry: CacheEntry = { claim, state: 'removed' };
    await hedged(() => new Promise((resolve) => this.write(entry, Infinity, resolve))).early;
  }

  /** At once where the key was taken over, as its fence keeps out what an earlier owner may still write. */
  markInFlight(claim: Claim, lease: number): void {
    const write = (remaining: number): void => {
      const leaseUntil = performance.now() + remaining;
      this.write({ claim, state: 'in_progress', lease: remaining }, leaseUntil);
    };
    if (claim.attempt > 1) write(lease);
    else this.markers.schedule(claim.token, lease, write);
  }

  unmark({ token }: Claim): void {
    this.markers.drop(token);
  }

  unmarkAll(): void {
    this.markers.dropAll();
  }

  /** @param onEnd told whether the copy stands */
  private write(
    entry: CacheEntry,
    notAfter = Infinity,
    onEnd: (stands: boolean) => void = () => undefined,
  ): void {
    if (this.isBypassed()) return onEnd(false);
    const askedAt = performance.now();
    if (askedAt >= notAfter) return onEnd(false);
    this.store.put(entry, notAfter).then(
      (stands) => {
        this.monitor.answered('put', askedAt);
        onEnd(stands);
      },
      (error: unknown) => {
        this.monitor.failed('put', askedAt, error);
        onEnd(false);
      },
    );
  }

  private isBypassed(): boolean {
    if (this.store.available) return false;
    this.metrics.storeError('redis');
    return true;
  }
}
