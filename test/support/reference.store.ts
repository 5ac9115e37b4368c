import type { Claim, CompletedRecord, IdempotencyRecord, Outcome, RecordId } from '../../lib/core/record';
import type { ClaimRequest, ClaimResult, CompleteResult, IdempotencyStore } from '../../lib/core/store';
import { RANK } from '../../lib/store/redis/codec';
import type { CacheEntry } from '../../lib/store/redis/redis.store';

interface Row {
  readonly claim: Claim;
  readonly outcome: Outcome | undefined;
  readonly leaseUntil: number;
  readonly expiresAt: number;
}

/** What two instances of the store share, as two processes share a database. */
export interface ReferenceData {
  readonly rows: Map<string, Row>;
  fence: number;
}

export interface ReferenceOptions {
  readonly data: ReferenceData;
  readonly now: () => number;
  readonly retention: number;
}

/** The store's contract in memory, by a clock of its own: what each verb means, without a server. */
export class ReferenceStore implements IdempotencyStore {
  constructor(protected readonly options: ReferenceOptions) {}

  async claim({ id, fingerprint, token, lease, takeOver }: ClaimRequest): Promise<ClaimResult> {
    const row = this.standing(id);
    const mine = row?.claim.token === token && !row.outcome;
    const orphan = row && !row.outcome && row.leaseUntil <= this.options.now();
    if (row && !mine && !(orphan && takeOver && row.claim.fingerprint === fingerprint))
      return { claimed: false, record: this.record(row) };
    const attempt = (row?.claim.attempt ?? 0) + 1;
    const claim = mine ? row.claim : { id, fingerprint, token, attempt, fence: ++this.options.data.fence };
    this.put({ claim, outcome: undefined }, lease);
    return { claimed: true, claim };
  }

  async complete(claim: Claim, outcome: Outcome): Promise<CompleteResult> {
    const row = this.options.data.rows.get(claim.id.hash);
    if (row && isOf(row, claim)) {
      if (!row.outcome) this.put({ claim: row.claim, outcome });
      return { recorded: true };
    }
    if (row && this.standing(claim.id)) return { recorded: false, record: this.record(row) };
    this.put({ claim, outcome });
    return { recorded: true };
  }

  async release(claim: Claim): Promise<boolean> {
    const row = this.options.data.rows.get(claim.id.hash);
    const unknown = claim.fence === 0;
    if (!row || row.outcome || !(unknown ? row.claim.token === claim.token : isOf(row, claim))) return false;
    if (unknown && row.claim.attempt > 1) this.put(row, 0);
    else this.options.data.rows.delete(claim.id.hash);
    return true;
  }

  async renew(claims: readonly Claim[], lease: number): Promise<ReadonlySet<string>> {
    const held = claims.filter((claim) => {
      const row = this.options.data.rows.get(claim.id.hash);
      if (!row || row.outcome || !isOf(row, claim)) return false;
      this.put(row, lease);
      return true;
    });
    return new Set(held.map((claim) => claim.token));
  }

  async find(id: RecordId): Promise<IdempotencyRecord | undefined> {
    const row = this.standing(id);
    return row && this.record(row);
  }

  async forget(claim: Claim): Promise<boolean> {
    const row = this.standing(claim.id);
    if (!row || !isOf(row, claim) || (!row.outcome && row.leaseUntil > this.options.now())) return false;
    return this.options.data.rows.delete(claim.id.hash);
  }

  private standing({ hash }: RecordId): Row | undefined {
    const row = this.options.data.rows.get(hash);
    return row && row.expiresAt > this.options.now() ? row : undefined;
  }

  protected put({ claim, outcome }: Pick<Row, 'claim' | 'outcome'>, lease = 0): void {
    const now = this.options.now();
    const expiresAt = now + Math.max(this.options.retention, lease);
    this.options.data.rows.set(claim.id.hash, { claim, outcome, leaseUntil: now + lease, expiresAt });
  }

  private record({ claim, outcome, leaseUntil, expiresAt }: Row): IdempotencyRecord {
    const now = this.options.now();
    return outcome
      ? {
          ...claim,
          state: 'completed',
          outcome,
          expiresIn: expiresAt - now,
          pending: false,
          tier: 'postgres',
        }
      : { ...claim, state: 'in_progress', leaseRemaining: leaseUntil - now, tier: 'postgres' };
  }
}

function isOf({ claim }: Row, { token, fence }: Claim): boolean {
  return claim.token === token && claim.fence === fence;
}

/** The cache's side of Redis in memory, for one key: the greater of (fence, rank) stays, late writes are dropped. */
export class ReferenceCache {
  readonly available = true;
  private entry: { readonly value: CacheEntry; readonly rank: number; readonly until: number } | undefined;

  constructor(private readonly now: () => number) {}

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

  async remember(value: CacheEntry, notAfter = Infinity): Promise<boolean> {
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
