import type { CompletedRecord, IdempotencyRecord } from '../../lib/core/record';
import { RANK } from '../../lib/store/redis/codec';
import type { CacheEntry } from '../../lib/store/redis/redis.store';

/** The cache's side of Redis in memory, for one key: the greater of (fence, rank) stays, late writes are dropped. */
export class ReferenceCache {
  readonly available = true;
  private entry: { readonly value: CacheEntry; readonly rank: number; readonly until: number } | undefined;

  constructor(private readonly now: () => number) {}

  /** Marks say whose records a Redis holds. Here all are ours. */
  announce(): void {
    return undefined;
  }

  get holdsPending(): boolean {
    return this.entry?.rank === RANK.pending;
  }

  async find(): Promise<IdempotencyRecord | undefined> {
    if (!this.entry || this.entry.until <= this.now()) return undefined;
    const { value, until } = this.entry;
    const left = until - this.now();
    switch (value.state) {
      case 'removed':
        return undefined;
      case 'in_progress':
        return { ...value.claim, state: 'in_progress', leaseRemaining: left, tier: 'redis' };
      case 'completed': {
        const { claim, state, outcome, pending } = value;
        return {
          ...claim,
          state,
          outcome,
          pending,
          expiresIn: left,
          tier: 'redis',
        } satisfies CompletedRecord;
      }
    }
  }

  async put(value: CacheEntry, notAfter = Infinity): Promise<boolean> {
    if (this.now() >= notAfter) return false;
    const rank = value.state === 'completed' && value.pending ? RANK.pending : RANK[value.state];
    const old = this.entry;
    if (old && old.value.claim.fence > value.claim.fence) return false;
    if (old?.value.claim.fence === value.claim.fence && old.rank >= rank) {
      return old.rank === rank || old.rank < RANK.removed;
    }
    const ttl = {
      in_progress: 'lease' in value ? value.lease : 0,
      completed: 'ttl' in value ? value.ttl : 0,
      removed: 60_000,
    };
    this.entry = { value, rank, until: this.now() + ttl[value.state] };
    return true;
  }

  wipe(): void {
    this.entry = undefined;
  }
}
