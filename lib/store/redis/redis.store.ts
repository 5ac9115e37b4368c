import { Logger } from '@nestjs/common';
import { performance } from 'node:perf_hooks';
import { StoreUnavailableError, UnreadableRecordError } from '../../core/errors';
import type { Claim, IdempotencyRecord, Outcome, RecordId } from '../../core/record';
import { forRequests } from '../../core/secret-mark';
import { noEncryption, OutcomeCipherError, type OutcomeCipher } from '../../outcome/outcome-cipher';
import type { ClaimRequest, ClaimResult, CompleteResult, IdempotencyStore } from '../../core/store';
import { decode, encodeRest, ForeignValueError, RANK, toRecord, type StoredValue } from './codec';
import { ClaimQueue } from './claim-queue';
import { CacheBatches, type Copy } from './cache-batches';
import { evaluate, type Argument, type Reply } from './evaluate';
import type { KeySpace } from './key-space';
import type { RedisConnection } from './connection/redis.connection';
import { CLAIM, COMPLETE, FORGET, INSPECT, RELEASE, RENEW, VERDICT, type Script } from './scripts';

/** A copy of what Postgres has decided: an in-flight hint, an outcome, or the mark that the claim is no more. */
export type CacheEntry =
  | { readonly claim: Claim; readonly state: 'in_progress'; readonly lease: number }
  | {
      readonly claim: Claim;
      readonly state: 'completed';
      readonly outcome: Outcome;
      /** True if Postgres does not have the outcome yet. */
      readonly pending: boolean;
      /** Milliseconds for which the copy is kept. */
      readonly ttl: number;
    }
  | { readonly claim: Claim; readonly state: 'removed' };

export interface RedisStoreOptions {
  readonly connection: RedisConnection;
  /** Put before every Redis key. */
  readonly keyPrefix: string;
  /** Where under it the records are. @default right behind it */
  readonly space?: KeySpace;
  /** Milliseconds for which a claim, and from its completion an outcome, is kept where Redis is the arbiter. */
  readonly ttl: number;
  /** What outcomes pass on their way in and out. @default in the clear */
  readonly cipher?: OutcomeCipher;
  /** Claims that may wait to be sent, where Redis is the arbiter. @default any number */
  readonly maxQueuedClaims?: number;
}

/** For how long (ms) the mark of a removed claim keeps its late writes out; no write is accepted that late. */
const MARK_TTL = 60_000;

/**
 * Records in Redis, in either of two roles: the cache of what Postgres has decided (`find`, `put`), or, without
 * Postgres, the arbiter (the store's contract; each verb is one atomic script).
 */
export class RedisStore implements IdempotencyStore {
  private readonly logger = new Logger('Idempotency');
  private readonly connection: RedisConnection;
  private readonly batches: CacheBatches;
  private readonly claims: ClaimQueue;
  private readonly cipher: OutcomeCipher;
  private readonly space: Pick<KeySpace, 'prefix'> & Partial<KeySpace>;
  private readonly reported = new Set<string>();

  constructor(private readonly options: RedisStoreOptions) {
    this.connection = options.connection;
    this.batches = new CacheBatches(options.connection);
    this.claims = new ClaimQueue(options.connection, options.maxQueuedClaims);
    this.cipher = options.cipher ?? noEncryption;
    this.space = options.space ?? { prefix: options.keyPrefix };
  }

  /** False while Redis is bypassed, and as long as it is not known whose copies these are. */
  get available(): boolean {
    return this.connection.available && this.space.prefix !== undefined;
  }

  /** Leaves the marks that say whose records are here. Never rejects. */
  announce(): void {
    this.space.announce?.();
  }

  /** As a cache: whether it may hold outcomes that the arbiter does not have, as it decided alone lately. */
  get mayHoldMore(): boolean {
    return this.space.mayHoldMore ?? false;
  }

  /**
   * @throws UnreadableRecordError if the key holds a foreign value: taken for absent, the handler could run twice
   * @throws StoreUnavailableError
   */
  async claim(request: ClaimRequest): Promise<ClaimResult> {
    const { id, token, fingerprint, takeOver } = request;
    this.space.announce?.();
    const lease = wholeMs(request.lease);
    const rest = encodeRest(request);
    const args = [lease, this.lifetime(lease), takeOver ? 1 : 0, token, fingerprint, rest];
    const reply = await this.claims.add(() => this.ask('claim', CLAIM, id, args, { droppedIfLate: true }));
    const record = this.recordOf('claim', id, reply);
    return reply.verdict === VERDICT.done
      ? { claimed: true, claim: claimOf(record) }
      : { claimed: false, record };
  }

  /**
   * @throws StoreUnavailableError
   * @throws UnreadableRecordError if the key holds a foreign value
   */
  async complete(claim: Claim, outcome: Outcome): Promise<CompleteResult> {
    const { id, fence, attempt, token } = claim;
    const rest = encodeRest(claim, this.cipher.encrypt(claim, outcome));
    const args = [fence, attempt, token, this.options.ttl, rest];
    const reply = await this.ask('complete', COMPLETE, id, args);
    if (reply.verdict === VERDICT.done) return { recorded: true };
    return { recorded: false, record: this.recordOf('complete', id, reply) };
  }

  async release({ id, fence, token }: Claim): Promise<boolean> {
    const reply = await this.ask('release', RELEASE, id, [fence, token, MARK_TTL]);
    return reply.verdict === VERDICT.done;
  }

  async renew(claims: readonly Claim[], lease: number): Promise<ReadonlySet<string>> {
    const ms = wholeMs(lease);
    const replies = await Promise.all(
      claims.map(({ id, fence, token }) =>
        this.ask('renew', RENEW, id, [fence, token, ms, this.lifetime(ms)]),
      ),
    );
    return new Set(
      claims.filter((_, index) => replies[index]?.verdict === VERDICT.done).map((claim) => claim.token),
    );
  }

  /** A foreign value reads as absent; on that answer alone no handler runs, in either role. */
  find(id: RecordId): Promise<IdempotencyRecord | undefined> {
    if (this.space.prefix === undefined) return this.confirmSpace().then(() => this.find(id));
    return new Promise((resolve, reject) => {
      const read = (value: Buffer | null): void => {
        const stored = value ? this.decoded(id, value) : undefined;
        if (stored?.kind === 'in_progress') resolve(this.inspect(id));
        else resolve(stored && toRecord(stored, this.connection.clock.now()));
      };
      this.batches.read(this.keyOf(id), read, reject);
    });
  }

  /** Only a lease must be exact, so that a replay stays one read. */
  private async inspect(id: RecordId): Promise<IdempotencyRecord | undefined> {
    const { value, now } = await this.ask('find', INSPECT, id, []);
    const record = value && this.decoded(id, value);
    return record && toRecord(record, now);
  }

  async forget({ id, fence, token }: Claim): Promise<boolean> {
    const reply = await this.ask('forget', FORGET, id, [fence, token, MARK_TTL], { droppedIfLate: true });
    return reply.verdict === VERDICT.done;
  }

  /**
   * Writes a copy, unless the greater fence, or for the same fence the later state, is there already. False if what
   * stands is another claim's, or the mark that this one was removed.
   * @param notAfter monotonic time (ms) from which on it must not be written any more
   * @throws StoreUnavailableError
   */
  put(entry: CacheEntry, notAfter = Infinity): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const { id, fence, attempt } = entry.claim;
      const { rank, lease, ttl, rest } = written(entry, this.cipher);
      this.space.announce?.();
      const copy: Copy = {
        key: this.keyOf(id),
        rank,
        fence,
        attempt,
        lease: wholeMs(lease),
        ttl: Math.max(1, wholeMs(ttl)),
        rest,
        // No caller waits for it any longer than that.
        notAfter: Math.min(notAfter, performance.now() + this.connection.timeout),
      };
      const decided = (verdict: number): void => {
        if (verdict === VERDICT.displaced) this.report(new ForeignValueError());
        resolve(verdict !== VERDICT.refused);
      };
      this.batches.write(copy, decided, reject);
    });
  }

  private ask(
    operation: string,
    script: Script,
    id: RecordId,
    args: readonly Argument[],
    { droppedIfLate = false } = {},
  ): Promise<Reply> {
    const { clock, timeout } = this.connection;
    const options = { clock, timeout, droppedIfLate, isAwaited: true };
    const evaluated = (): Promise<Reply> =>
      this.connection
        .run(operation, (client) => evaluate(client, script, this.keyOf(id), args, options))
        .finally(() => (options.isAwaited = false));
    return this.space.prefix === undefined ? this.confirmSpace().then(evaluated) : evaluated();
  }

  /** The record that an arbiter's verb answers with. */
  private recordOf(operation: string, id: RecordId, { verdict, value, now }: Reply): IdempotencyRecord {
    let reason: unknown;
    try {
      const record = value && toRecord(decode(id, value, this.cipher), now);
      if (record) return record;
      reason = new ForeignValueError();
      if (verdict === VERDICT.foreign) this.report(reason);
    } catch (error) {
      this.report(error);
      reason = error;
    }
    throw new UnreadableRecordError('redis', operation, reason);
  }

  private decoded(id: RecordId, value: Buffer): StoredValue | undefined {
    try {
      return decode(id, value, this.cipher);
    } catch (error) {
      this.report(error);
      return undefined;
    }
  }

  /** Once for each kind of value that is refused. */
  private report(error: unknown): void {
    const { keyPrefix } = this.options;
    const place = `Redis holds a value under the prefix "${keyPrefix}"`;
    if (error instanceof OutcomeCipherError) {
      this.logOnce(`${place} that is refused: ${error.message}`);
    } else if (error instanceof ForeignValueError) {
      this.logOnce(
        `${place} that this version of the module did not write: use another \`redis.keyPrefix\`, or delete what ` +
          'does not belong there',
      );
    } else throw error;
  }

  private logOnce(line: string): void {
    if (this.reported.has(line)) return;
    this.reported.add(line);
    this.logger.error(line);
  }

  /** A key must not expire under a lease. */
  private lifetime(lease: number): number {
    return Math.max(this.options.ttl, lease);
  }

  private async confirmSpace(): Promise<void> {
    await this.space.confirm?.().catch((error: unknown) => {
      throw forRequests('redis', error);
    });
  }

  private keyOf(id: RecordId): string {
    const { prefix } = this.space;
    if (prefix === undefined)
      throw new StoreUnavailableError('redis', 'find', 'its place is not known', false);
    return prefix + id.hash;
  }
}

function written(
  entry: CacheEntry,
  cipher: OutcomeCipher,
): { rank: number; lease: number; ttl: number; rest: Buffer } {
  switch (entry.state) {
    case 'in_progress':
      return { rank: RANK.in_progress, lease: entry.lease, ttl: entry.lease, rest: encodeRest(entry.claim) };
    case 'completed': {
      const rank = entry.pending ? RANK.pending : RANK.completed;
      const rest = encodeRest(entry.claim, cipher.encrypt(entry.claim, entry.outcome));
      return { rank, lease: 0, ttl: entry.ttl, rest };
    }
    case 'removed':
      return { rank: RANK.removed, lease: 0, ttl: MARK_TTL, rest: Buffer.alloc(0) };
  }
}

function claimOf({ id, fingerprint, token, fence, attempt }: IdempotencyRecord): Claim {
  return { id, fingerprint, token, fence, attempt };
}

/** Redis counts in whole milliseconds. */
function wholeMs(ms: number): number {
  return Math.floor(ms);
}
