import { plainDigest, type Digest } from './digest';

/** Where a copy of a record was read; `store` is one that the application brought. */
export type Tier = 'redis' | 'postgres' | 'store';

/**
 * What a record is filed under. The same key in two scopes names two records.
 * Both stores address a record by `hash`, so no key or scope, however hostile or long,
 * reaches an index or the Redis key space as text.
 */
export interface RecordId {
  readonly scope: string;
  readonly key: string;
  /** SHA-256 of namespace, scope and key, keyed where there is a `secret`, in lower-case hexadecimal. */
  readonly hash: string;
}

/** Builds the identity of a record. */
export function recordId(scope: string, key: string, digest: Digest = plainDigest): RecordId {
  return { scope, key, hash: digest.idOf(scope, key) };
}

/** Header names as first sent, in order; a name that was sent more than once has a list of values. */
export type HeaderList = readonly (readonly [name: string, value: string | readonly string[]])[];

/**
 * Why there is no response to replay: it exceeded `maxBodySize`, it had no storable form, or the store holds one that
 * cannot be read here, as it is malformed or encrypted with a key that this application does not have. The last is
 * never written.
 */
export type TombstoneReason = 'too_large' | 'unstorable' | 'unreadable';

/** A response that every retry gets back as it is. */
export interface ResponseOutcome {
  readonly kind: 'response';
  readonly status: number;
  readonly headers: HeaderList;
  readonly body: Buffer;
}

/** The handler finished, but its response cannot be replayed: a retry is told so and does not run it again. */
export interface TombstoneOutcome {
  readonly kind: 'tombstone';
  readonly status: number;
  readonly reason: TombstoneReason;
}

export type Outcome = ResponseOutcome | TombstoneOutcome;

/** A store holds an outcome that cannot be read here. */
export function isUnreadable(outcome: Outcome): boolean {
  return outcome.kind === 'tombstone' && outcome.reason === 'unreadable';
}

/** Of its headers and its body. */
export function bytesOfOutcome(outcome: Outcome): number {
  if (outcome.kind === 'tombstone') return 0;
  let bytes = outcome.body.length;
  for (const [name, value] of outcome.headers)
    for (const each of [value].flat()) bytes += Buffer.byteLength(name) + Buffer.byteLength(each);
  return bytes;
}

/** A response whose headers and body are encrypted. */
export interface EncryptedOutcome {
  readonly kind: 'encrypted';
  readonly status: number;
  /** Tells it from a list of headers, and which key opens it. */
  readonly label: readonly [algorithm: 'A256GCM', keyId: string];
  readonly content: Buffer;
}

/** What a store holds of an outcome. */
export type StoredOutcome = Outcome | EncryptedOutcome;

/** The right to run one handler for one key, proven by `token` and ordered by `fence`. */
export interface Claim {
  readonly id: RecordId;
  /**
   * SHA-256 of the request, keyed where there is a `secret`, in lower-case hexadecimal: tells a retry from another
   * request under the same key.
   */
  readonly fingerprint: string;
  /** UUID that the claimant chose; it alone may complete, renew or release the claim. */
  readonly token: string;
  /** Rises strictly with each claim of a key, so that a late writer can be told from the present owner. */
  readonly fence: number;
  /** 1 for a first claim, one more each time a lapsed claim is taken over. */
  readonly attempt: number;
}

export interface InProgressRecord extends Claim {
  readonly state: 'in_progress';
  /** Milliseconds until the lease lapses by the store's own clock; zero or less once it has lapsed. */
  readonly leaseRemaining: number;
  readonly tier: Tier;
}

export interface CompletedRecord extends Claim {
  readonly state: 'completed';
  readonly outcome: Outcome;
  /** Milliseconds until the record expires by the store's own clock. */
  readonly expiresIn: number;
  /** True while the outcome is in Redis only, because Postgres could not be reached when the handler finished. */
  readonly pending: boolean;
  readonly tier: Tier;
}

/** A key without a record is absent; there is no third state. */
export type IdempotencyRecord = InProgressRecord | CompletedRecord;

/** The owner of this claim is lost: its lease lapsed without an outcome. */
export function isOrphaned(record: IdempotencyRecord): boolean {
  return record.state === 'in_progress' && record.leaseRemaining <= 0;
}

/** Whether it is what this very claim has made. Stores give tokens in lower case. */
export function isOfClaim(record: IdempotencyRecord | undefined, claim: Claim): boolean {
  return record?.token === claim.token.toLowerCase() && record.fence === claim.fence;
}

/** Redis' word alone: Postgres did not have it when it was written, and another claim may have won the key since. */
export function isPending(record: IdempotencyRecord): boolean {
  return record.state === 'completed' && record.pending;
}
