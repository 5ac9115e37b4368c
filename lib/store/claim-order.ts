import { performance } from 'node:perf_hooks';
import type { RecordId } from '../core/record';
import { RecentKeys } from './recent-keys';

/** Weight of the newest request: five retries of new keys in a row are enough to ask Redis first. */
const NEWEST = 1 / 32;
/** A read of Redis costs each first request about a quarter of what it saves a replay. */
const SHARE_TO_READ = 1 / 8;
/** Milliseconds without an answer to any claim after which Postgres may be frozen: Redis can answer meanwhile. */
const STALLED_AFTER = 50;

/**
 * Whether a request reads Redis before it claims its key. A first request has no use for the read: Redis cannot know its
 * key. A retry has, and it spares Postgres the claim. So Redis is read first where this process has met a record of the
 * key lately, where many of the keys that are new to it had one, and while Postgres does not answer.
 */
export class ClaimOrder {
  private readonly recorded = new RecentKeys();
  /** Of the last requests with keys that are new to this process: the share that found a record. */
  private share = 0;
  private claiming = 0;
  /** Monotonic time (ms) since when no claim was answered, although one was under way. */
  private waitingSince = 0;

  readsFirst({ hash }: RecordId): boolean {
    return this.share > SHARE_TO_READ || this.recorded.has(hash) || this.isStalled();
  }

  /** The request has found a record. */
  found({ hash }: RecordId): void {
    if (this.recorded.has(hash)) return;
    this.share += NEWEST * (1 - this.share);
    this.recorded.add(hash);
  }

  /** The request was the first of its key. */
  foundNone({ hash }: RecordId): void {
    if (!this.recorded.has(hash)) this.share -= NEWEST * this.share;
  }

  /** Retries of the key will find a record. */
  record({ hash }: RecordId): void {
    this.recorded.add(hash);
  }

  claimSent(): void {
    if (this.claiming++ === 0) this.waitingSince = performance.now();
  }

  claimEnded(): void {
    this.claiming--;
    this.waitingSince = performance.now();
  }

  private isStalled(): boolean {
    return this.claiming > 0 && performance.now() - this.waitingSince > STALLED_AFTER;
  }
}
