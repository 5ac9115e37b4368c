import { Logger } from '@nestjs/common';
import { StoreUnavailableError } from '../../core/errors';
import type { Claim, IdempotencyRecord, Outcome, RecordId } from '../../core/record';
import type { ClaimRequest, ClaimResult, CompleteResult, IdempotencyStore } from '../../core/store';
import { decode, encodeRest, ForeignValueError, RANK, toRecord } from './codec';
import type { RedisConnection } from './redis.connection';
import { CLAIM, COMPLETE, evaluate, FORGET, INSPECT, RELEASE, REMEMBER, RENEW, type Script } from './scripts';

/** A copy of what Postgres has decided: an in-flight hint, an outcome, or the mark that the claim is no more. */
export type CacheEntry =
  | { readonly claim: Claim; readonly state: 'in_progress'; readonly lease: number }
  | {
      readonly claim: Claim;
      readonly state: 'completed';
      readonly outcome: Outcome;
      readonly pending: boolean;
      readonly ttl: number;
    }
  | { readonly claim: Claim; readonly state: 'removed' };

export interface RedisStoreOptions {
  readonly connection: RedisConnection;
  readonly keyPrefix: string;
  /** Milliseconds for which a record is kept. */
  readonly ttl: number;
}

type Reply = readonly [value: Buffer | null, foreign: number, now: Buffer];

/** For how long (ms) a removed claim's late writes are kept out; commands do not linger longer in a live connection. */
const REMOVED_TTL = 60_000;

/**
 * Records in Redis, in either role: a cache of what Postgres has decided (`find`, `remember`), or, without Postgres,
 * the arbiter itself, each verb one atomic script.
 */
export class RedisStore implements IdempotencyStore {
  private readonly logger = new Logger('Idempotency');
  private readonly connection: RedisConnection;
  private saidForeign = false;

  constructor(private readonly options: RedisStoreOptions) {
    this.connection = options.connection;
  }

  /** False while Redis is bypassed. */
  get available(): boolean {
    return this.connection.available;
  }

  async claim(request: ClaimRequest): Promise<ClaimResult> {
    const { id, token, fingerprint, lease, takeOver } = request;
    const args = [token, fingerprint, lease, this.options.ttl, takeOver ? 1 : 0];
    const record = this.recordIn(id, await this.evaluate<Reply>('claim', CLAIM, id, args));
    if (!record) throw new StoreUnavailableError('redis', 'claim', new ForeignValueError());
    if (record.state === 'in_progress' && record.token === token) {
      const { attempt, fence } = record;
      return { claimed: true, claim: { id, fingerprint: record.fingerprint, token, fence, attempt } };
    }
    return { claimed: false, record };
  }

  async complete(claim: Claim, outcome: Outcome): Promise<CompleteResult> {
    const args = [claim.fence, claim.token, this.options.ttl, encodeRest(claim, outcome)];
    const reply = await this.evaluate<Reply | null>('complete', COMPLETE, claim.id, args);
    const record = reply && this.recordIn(claim.id, reply);
    return record ? { recorded: false, record } : { recorded: true };
  }

  async release(claim: Claim): Promise<boolean> {
    const args = [claim.fence, claim.token, REMOVED_TTL];
    return (await this.evaluate('release', RELEASE, claim.id, args)) === 1;
  }

  async renew(claims: readonly Claim[], lease: number): Promise<ReadonlySet<string>> {
    const standing = await Promise.all(
      claims.map(({ id, fence, token }) =>
        this.evaluate('renew', RENEW, id, [fence, token, lease, Math.max(this.options.ttl, lease)]),
      ),
    );
    return new Set(claims.filter((_, index) => standing[index] === 1).map((claim) => claim.token));
  }

  async find(id: RecordId): Promise<IdempotencyRecord | undefined> {
    const value = await this.connection.run('find', (client) => client.getBuffer(this.keyOf(id)));
    if (!value) return undefined;
    const stored = this.decoded(id, value);
    if (!stored) throw new StoreUnavailableError('redis', 'find', new ForeignValueError());
    // Only a lease needs Redis' clock, so a replay stays a plain GET.
    if (stored.kind !== 'in_progress') return toRecord(stored, 0, this.options.ttl);
    return this.recordIn(id, await this.evaluate<Reply>('find', INSPECT, id, []));
  }

  async forget({ id, fence, token }: Claim): Promise<boolean> {
    return (await this.evaluate('forget', FORGET, id, [fence, token, REMOVED_TTL])) === 1;
  }

  /** Writes a copy unless another claim with a greater fence, or the mark of its own removal, stands: false then. */
  async remember(entry: CacheEntry): Promise<boolean> {
    const { claim } = entry;
    const { rank, lease, ttl, rest } = written(entry);
    return (await this.evaluate('remember', REMEMBER, claim.id, [rank, claim.fence, lease, ttl, rest])) === 1;
  }

  /** @throws StoreUnavailableError for a foreign value: taken for absent, it could let a handler run twice */
  private recordIn(id: RecordId, [value, foreign, now]: Reply): IdempotencyRecord | undefined {
    const stored = value && !foreign ? this.decoded(id, value) : undefined;
    if (foreign || (value && !stored)) {
      this.sayForeign();
      throw new StoreUnavailableError('redis', 'read', new ForeignValueError());
    }
    return stored && toRecord(stored, Number(now.toString()), this.options.ttl);
  }

  private decoded(id: RecordId, value: Buffer): ReturnType<typeof decode> | undefined {
    try {
      return decode(id, value);
    } catch (error) {
      if (!(error instanceof ForeignValueError)) throw error;
      this.sayForeign();
      return undefined;
    }
  }

  private sayForeign(): void {
    if (this.saidForeign) return;
    this.saidForeign = true;
    this.logger.error(
      `Redis holds a value under the prefix "${this.options.keyPrefix}" that this module did not write`,
    );
  }

  private evaluate<T>(
    operation: string,
    script: Script,
    id: RecordId,
    args: readonly (string | number | Buffer)[],
  ): Promise<T> {
    return this.connection.run(operation, (client) =>
      evaluate(client, script, this.keyOf(id), args),
    ) as Promise<T>;
  }

  private keyOf(id: RecordId): string {
    return this.options.keyPrefix + id.hash;
  }
}

function written(entry: CacheEntry): { rank: number; lease: number; ttl: number; rest: Buffer } {
  switch (entry.state) {
    case 'in_progress':
      return { rank: RANK.in_progress, lease: entry.lease, ttl: entry.lease, rest: encodeRest(entry.claim) };
    case 'completed': {
      const rank = entry.pending ? RANK.pending : RANK.completed;
      return { rank, lease: 0, ttl: entry.ttl, rest: encodeRest(entry.claim, entry.outcome) };
    }
    case 'removed':
      return { rank: RANK.removed, lease: 0, ttl: REMOVED_TTL, rest: Buffer.alloc(0) };
  }
}
