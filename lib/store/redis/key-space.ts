import type { Cluster, Redis } from 'ioredis';
import { performance } from 'node:perf_hooks';
import { inBackground } from '../../core/background';
import type { Digest } from '../../core/digest';
import { StoreUnavailableError, UnreadableRecordError } from '../../core/errors';
import { assertSameSecret } from '../../core/secret-mark';
import type { RedisConnection } from './connection/redis.connection';

/** Under which prefix a store's records are in Redis. */
export interface KeySpace {
  /** Undefined as long as it is not known: until then nothing is read or written. */
  readonly prefix: string | undefined;
  /**
   * Finds out.
   * @throws StoreUnavailableError
   * @throws IdempotencySetupError if the records are made with another secret
   */
  confirm(): Promise<void>;
  /**
   * Whether there may be outcomes that the arbiter does not have, as Redis has decided alone lately. True as long as that
   * is not known.
   */
  readonly mayHoldMore: boolean;
  /** Before a copy is written, or a claim is made. */
  announce(): void;
  /** The connection was lost: what comes next may be another Redis, or an empty one. */
  forget(): void;
}

/** How often (ms) a Redis that decides alone is seen to have its mark: it may have been emptied. */
const ANNOUNCE_EVERY = 1_000;

/** How often (ms) a process with both stores asks at most whether another one decides in Redis alone. */
const ASK_EVERY = 1_000;

/** How often (ms) the marks of a table are left again: this Redis may have been emptied, or may evict them. */
const ANNOUNCE_TABLE_EVERY = 60_000;

/** Where records are as long as no table has been there. */
const NO_TABLE = 'none';

export interface KeySpaceOptions {
  readonly connection: RedisConnection;
  readonly keyPrefix: string;
  readonly digest: Digest;
  /** Whether marks are left. Tools leave none: this Redis may be another one than the application's. @default true */
  readonly leavesMark?: boolean;
}

/**
 * Copies of one table: its tag is part of each key, so that Redis never answers for another database. A mark leads to
 * them, for when Postgres is switched off. A second mark says that this table has copies here.
 */
export class TableKeySpace implements KeySpace {
  private announcedAt = -Infinity;
  private prefixed: { readonly tag: string; readonly prefix: string } | undefined;
  private decidedAlone = true;
  private askedAt = -Infinity;

  constructor(
    private readonly options: KeySpaceOptions,
    private readonly tag: () => string | undefined,
  ) {}

  get prefix(): string | undefined {
    const tag = this.tag();
    if (tag === this.prefixed?.tag) return this.prefixed?.prefix;
    this.prefixed = tag ? { tag, prefix: prefixOf(this.options, tag) } : undefined;
    return this.prefixed?.prefix;
  }

  get mayHoldMore(): boolean {
    if (performance.now() - this.askedAt >= ASK_EVERY)
      void inBackground(() => this.ask().catch(() => undefined));
    return this.decidedAlone;
  }

  /**
   * Asks whether Redis has decided alone lately.
   * @throws StoreUnavailableError
   */
  async ask(): Promise<void> {
    this.askedAt = performance.now();
    const { connection } = this.options;
    const mark = await connection.run('check', (client) => client.get(aloneKeyOf(this.options)));
    this.decidedAlone = mark !== null;
  }

  confirm(): Promise<void> {
    const reason = 'its copies count only once Postgres was reached';
    return Promise.reject(new StoreUnavailableError('redis', 'check', reason, false));
  }

  announce(): void {
    const { connection, digest, leavesMark = true } = this.options;
    const tag = this.tag();
    const now = performance.now();
    if (!tag || !leavesMark || now - this.announcedAt < ANNOUNCE_TABLE_EVERY) return;
    this.announcedAt = now;
    const marks = [
      [markKeyOf(this.options), `${digest.markOfSecret}:${tag}`],
      [tableMarkKeyOf(this.options, tag), '1'],
    ] as const;
    connection
      .run('mark', (client) => Promise.all(marks.map(([key, mark]) => client.set(key, mark))))
      .catch(() => (this.announcedAt = -Infinity));
  }

  /**
   * Whether an application has left the mark of this table here.
   * @throws StoreUnavailableError
   */
  async isMarked(): Promise<boolean> {
    const tag = this.tag();
    if (!tag) return false;
    const key = tableMarkKeyOf(this.options, tag);
    return (await this.options.connection.run('check', (client) => client.get(key))) !== null;
  }

  forget(): void {
    this.announcedAt = -Infinity;
    this.decidedAlone = true;
    this.askedAt = -Infinity;
  }
}

/**
 * Records of a Redis that decides alone. Its mark says which secret they are made with, and where those are that
 * Postgres had decided about before. A second mark, which lives as long as the records do, tells processes with both
 * stores that Redis may know outcomes which Postgres lacks.
 */
export class ArbiterKeySpace implements KeySpace {
  readonly mayHoldMore = false;
  prefix: string | undefined;
  private tag = NO_TABLE;
  private confirming: Promise<void> | undefined;
  private announcedAt = -Infinity;

  /** @param ttl milliseconds for which a record is kept */
  constructor(
    private readonly options: KeySpaceOptions,
    private readonly ttl: number,
  ) {}

  confirm(): Promise<void> {
    return (this.confirming ??= this.readMark().finally(() => (this.confirming = undefined)));
  }

  /** An instance that starts after Redis was emptied would file its records elsewhere than those that run on. */
  announce(): void {
    const now = performance.now();
    if (this.prefix === undefined || now - this.announcedAt < ANNOUNCE_EVERY) return;
    this.announcedAt = now;
    const { connection } = this.options;
    connection.run('mark', (client) => this.leaveMark(client)).catch(() => (this.announcedAt = -Infinity));
  }

  forget(): void {
    this.prefix = undefined;
  }

  private async readMark(): Promise<void> {
    const { connection, digest, keyPrefix } = this.options;
    const key = markKeyOf(this.options);
    const mark = await connection.run('check', async (client) => {
      await this.leaveMark(client);
      return client.get(key);
    });
    this.announcedAt = performance.now();
    const [, secret, tag] = /^([0-9a-f]{64}):([0-9a-z]+)$/.exec(mark ?? '') ?? [];
    if (!secret || !tag) throw new UnreadableRecordError('redis', 'check', `the mark ${key} is not ours`);
    assertSameSecret(secret, digest, `Redis under "${keyPrefix}"`);
    this.tag = tag;
    this.prefix = prefixOf(this.options, tag);
  }

  private async leaveMark(client: Redis | Cluster): Promise<void> {
    await client.set(aloneKeyOf(this.options), '1', 'PX', Math.ceil(this.ttl));
    await client.set(markKeyOf(this.options), `${this.options.digest.markOfSecret}:${this.tag}`, 'NX');
  }
}

function prefixOf({ keyPrefix }: KeySpaceOptions, tag: string): string {
  return `${keyPrefix}${tag}:`;
}

/** The key of a namespace's mark. */
export function markKeyOf({ keyPrefix, digest }: Pick<KeySpaceOptions, 'keyPrefix' | 'digest'>): string {
  return `${keyPrefix}mark:${digest.markId}`;
}

function tableMarkKeyOf(options: KeySpaceOptions, tag: string): string {
  return `${prefixOf(options, tag)}mark`;
}

function aloneKeyOf({ keyPrefix, digest }: KeySpaceOptions): string {
  return `${keyPrefix}mark-alone:${digest.markId}`;
}
