/* eslint-disable @typescript-eslint/require-await -- every verb of the contract is asynchronous */
import type { Claim, IdempotencyRecord, RecordId, Outcome, Tier } from '../../core/record';
import type { ClaimRequest, ClaimResult, CompleteResult, IdempotencyStore } from '../../core/store';
import { MemoryDirectory, type MemoryRow } from './memory.directory';

/** What two instances of the store share, as two processes share a database. */
export class MemoryData {
  /** By the record's hash; what was written last is at the end. */
  readonly rows = new Map<string, MemoryRow>();
  fence = 0;
}

export interface MemoryStoreOptions {
  readonly data: MemoryData;
  /** The store's clock, in milliseconds. */
  readonly now: () => number;
  /** Milliseconds for which a record answers. */
  readonly retention: number;
  readonly tier?: Tier;
}

/**
 * The store's contract in memory: what each verb means, without a server. One process is not an arbiter: another one does
 * not see its records, and they end with it.
 */
export class MemoryStore implements IdempotencyStore {
  readonly directory: MemoryDirectory;

  constructor(protected readonly options: MemoryStoreOptions) {
    this.directory = new MemoryDirectory(() => this.standingRows(), options.now);
  }

  async claim({ id, fingerprint, token, lease, takeOver }: ClaimRequest): Promise<ClaimResult> {
    this.dropExpired();
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

  /** What stands now, in the order in which it was written last. */
  records(): IdempotencyRecord[] {
    return this.standingRows().map((row) => this.record(row));
  }

  private standingRows(): MemoryRow[] {
    this.dropExpired();
    const now = this.options.now();
    return [...this.options.data.rows.values()].filter(({ expiresAt }) => expiresAt > now);
  }

  protected put({ claim, outcome }: Pick<MemoryRow, 'claim' | 'outcome'>, lease = 0): void {
    const { data, retention } = this.options;
    const now = this.options.now();
    const createdAt = this.standing(claim.id)?.createdAt ?? now;
    data.rows.delete(claim.id.hash);
    data.rows.set(claim.id.hash, {
      claim,
      outcome,
      leaseUntil: now + lease,
      expiresAt: now + Math.max(retention, lease),
      createdAt,
      completedAt: outcome && now,
    });
  }

  private standing({ hash }: RecordId): MemoryRow | undefined {
    const row = this.options.data.rows.get(hash);
    return row && row.expiresAt > this.options.now() ? row : undefined;
  }

  /** Up to the first that stands: what was written earlier expires earlier, unless its lease is longer than that. */
  private dropExpired(): void {
    const now = this.options.now();
    for (const [hash, { expiresAt }] of this.options.data.rows) {
      if (expiresAt > now) return;
      this.options.data.rows.delete(hash);
    }
  }

  private record({ claim, outcome, leaseUntil, expiresAt }: MemoryRow): IdempotencyRecord {
    const { tier = 'store' } = this.options;
    const now = this.options.now();
    return outcome
      ? { ...claim, state: 'completed', outcome, expiresIn: expiresAt - now, pending: false, tier }
      : { ...claim, state: 'in_progress', leaseRemaining: leaseUntil - now, tier };
  }
}

function isOf({ claim }: MemoryRow, { token, fence }: Claim): boolean {
  return claim.token === token && claim.fence === fence;
}
