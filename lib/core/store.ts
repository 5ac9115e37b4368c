import type { Durability } from './policy';
import type { Claim, IdempotencyRecord, Outcome, RecordId } from './record';
import type { RecordDirectory } from './record-directory';

export interface ClaimRequest {
  readonly id: RecordId;
  readonly fingerprint: string;
  /**
   * UUID of this claim. A caller that tries the same claim again (its reply was lost) passes the same token,
   * and is told that it already owns the key instead of being refused by its own record.
   */
  readonly token: string;
  /** Milliseconds for which the claim is held without renewal. */
  readonly lease: number;
  /** Whether a lapsed claim of the same fingerprint may be taken over. */
  readonly takeOver: boolean;
  /** True if the claimant has reason to doubt an in-flight answer from a cache: the arbiter itself is asked. */
  readonly bypassCache: boolean;
  readonly durability: Durability;
}

export type ClaimResult =
  | { readonly claimed: true; readonly claim: Claim }
  | {
      readonly claimed: false;
      readonly record: IdempotencyRecord;
      /** A cache says that the request is in flight; only its own duplicates, and only those that wait, may go by that. */
      readonly isHint?: boolean;
    };

/** `recorded: false` means that the lease was lost; `record` is what stands in the store instead. */
export type CompleteResult =
  { readonly recorded: true } | { readonly recorded: false; readonly record: IdempotencyRecord };

export interface ForgottenRecords {
  /** Records that were deleted, expired ones included. */
  readonly deleted: number;
  /** The tokens of those that had not expired. */
  readonly tokens: ReadonlySet<string>;
}

/**
 * What the protocol asks of a store. Every verb is atomic, every write names the token and fence of a claim,
 * leases and expiry go by the store's own clock, and repeating a call whose reply was lost gives the same answer.
 *
 * Every verb rejects with {@link StoreUnavailableError} when the store cannot be asked in time; an error is
 * never reported as an absent record.
 */
export interface IdempotencyStore {
  /**
   * Claims a key that is absent or expired, or, with `takeOver`, one whose lease has lapsed under the same
   * fingerprint. Otherwise answers with the record that stands in the way.
   */
  claim(request: ClaimRequest): Promise<ClaimResult>;

  /**
   * Records the outcome if the claim still stands, even past its lease as long as no other took it over, and also
   * if no record stands at all (the store lost it): the handler did run, and its retries must be told.
   * @param heldUntil monotonic time (ms) until which the lease certainly holds; a store that keeps outcomes elsewhere
   * while its arbiter is away may do so only until then, as another request may own the key afterwards
   */
  complete(claim: Claim, outcome: Outcome, heldUntil?: () => number): Promise<CompleteResult>;

  /**
   * Gives an unfinished claim back, so that the next request runs the handler. False if the claim no longer stood.
   * A claim of fence 0 is one whose reply was lost: it is named by its token alone, and no handler ran under it. If
   * it took an orphan over, the orphan is left as it was, for that one's handler may have run.
   */
  release(claim: Claim): Promise<boolean>;

  /** Extends the leases of these claims to `lease` ms from now, and answers with the tokens of those that still stand. */
  renew(claims: readonly Claim[], lease: number): Promise<ReadonlySet<string>>;

  /** The record of a key; undefined when it is absent or expired. */
  find(id: RecordId): Promise<IdempotencyRecord | undefined>;

  /** Deletes the record of this very claim, unless its lease is alive. False if nothing was deleted. */
  forget(claim: Claim): Promise<boolean>;

  /** {@link forget} for many claims at once. A store without it is asked for each of them. */
  forgetAll?(claims: readonly Claim[]): Promise<ForgottenRecords>;

  /** What `IdempotencyAdmin` looks through the records with. Without it there is no `list`, `show`, `purge` and `stats`. */
  readonly directory?: RecordDirectory;
}

/** A store is used from the application's start to its end. */
export type StorePhase = 'new' | 'open' | 'closed';
