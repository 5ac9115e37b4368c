import type { Change } from '../core/audit';
import type { Explanation, RequestDescription } from '../core/explanation';
import type { CompletedRecord, IdempotencyRecord } from '../core/record';
import type {
  RecordPage,
  RecordState,
  RecordSummary,
  StatsOptions,
  TableStats,
} from '../core/record-directory';
import type { Duration } from '../options/duration';
import type { ScopeAnswer } from '../options/idempotency.options';
import type { Resolution } from '../outcome/resolution';

/**
 * Whose records: a name (`'u7'`) that a user's `id`, `sub` or `userId`, or the `scope` option, has given; a list that
 * the `scope` option has given; or one or more of the `principal`s that are listed. `1`, `'1'` and `1n` are three.
 */
export type PrincipalFilter = ScopeAnswer | { readonly text: string | readonly string[] };

/** Which records. All that is given must hold. */
export interface RecordFilter {
  /** The whole scope: the answer of `httpScope()`, or the `scope` of `execute()`. */
  readonly scope?: string;
  /** Path, or method and path, with the global prefix; `:name` stands for one segment, `*` for the rest. */
  readonly route?: string;
  readonly principal?: PrincipalFilter;
  readonly key?: string;
  /** Time since the key was first claimed. */
  readonly olderThan?: Duration;
}

export interface ListOptions extends RecordFilter {
  readonly state?: RecordState;
  /** Of the page before. */
  readonly cursor?: string;
  /** Records of one page, 1 to 1000. @default 50 */
  readonly limit?: number;
}

/** A record: its `hash` as it is listed, or its key with its scope. @default scope: 'execute' */
export type RecordReference = string | { readonly key: string; readonly scope?: string };

/** A record with its response. */
export interface RecordDetails extends RecordSummary {
  /** SHA-256 of the request, keyed where there is a `secret`. */
  readonly fingerprint: string;
  /** Undefined while there is none. A tombstone says why there is no response to show. */
  readonly outcome: CompletedRecord['outcome'] | undefined;
  /**
   * What Redis holds of it: the state of its copy, `pending` for an outcome that Postgres does not have yet;
   * `unreachable`. Undefined where it holds nothing, or is not used.
   */
  readonly copy: IdempotencyRecord['state'] | 'pending' | 'unreachable' | undefined;
}

export interface PurgeReport {
  /** Records that no process replays any more. */
  readonly purged: number;
  /** Copies of them in Redis. */
  readonly copies: number;
  /** Records that were left, as their handlers run. Purge again once these have ended. */
  readonly inFlight: number;
  /** Records that were claimed anew, taken over or deleted meanwhile. */
  readonly changed: number;
  /**
   * Records that were left, because Redis or the store that decides could not be told. Where the latter did not answer,
   * they may be deleted nevertheless. Purge again once it answers.
   */
  readonly unreachable: { readonly redis: number; readonly arbiter: number };
  /** Whether all records were looked at; otherwise `error` says why not. */
  readonly complete: boolean;
  readonly error: string | undefined;
}

export interface PurgeProgress {
  /** From 0 to 1: how much of the table has been read. */
  readonly read: number;
  readonly purged: number;
}

/** What an admin sees of the store, and of the traffic of this process. */
export interface AdminStats extends TableStats {
  /** Requests of this process since its start; undefined where it serves none. */
  readonly requests:
    | {
        readonly executed: number;
        readonly replayed: number;
        /** Replayed ones in both, from 0 to 1; undefined before the first request. */
        readonly hitRate: number | undefined;
      }
    | undefined;
}

/**
 * Lets operators look at all records, settle unknown outcomes and erase. To be injected. Its callers can read responses
 * and delete records, so guard what you build on it.
 *
 * All methods throw StoreUnavailableError if the store that decides cannot be asked, and InvalidOptionsError for
 * arguments that are none. `list`, `show`, `purge` and `stats` need Postgres, records in memory, or a store with a
 * `directory`, and throw IdempotencySetupError without.
 */
export abstract class IdempotencyAdmin {
  /** One page of records, the one that expires last first. */
  abstract list(options?: ListOptions): Promise<RecordPage>;

  /** A record with its response; undefined if there is none. */
  abstract show(record: RecordReference): Promise<RecordDetails | undefined>;

  /**
   * Settles the unknown outcome of an orphaned record with the response, or the value of `execute`, that retries must
   * get. False if there is nothing to settle: no record, an outcome already, or an owner that is alive. An outcome that
   * Redis still has is recorded.
   */
  abstract resolve(
    record: RecordReference,
    outcome: Exclude<Resolution, 'retry'>,
    change: Change,
  ): Promise<boolean>;

  /** Frees the key of an orphaned record, so that the next request runs the handler. False as for {@link resolve}. */
  abstract retry(record: RecordReference, change: Change): Promise<boolean>;

  /**
   * Deletes a record in both tiers, so that the next request runs the handler. False if there is none, or if its handler
   * runs.
   * @throws StoreUnavailableError also if only Redis cannot be told, and then nothing is deleted; where the store that
   * decides has not answered, the record may be deleted nevertheless
   */
  abstract forget(record: RecordReference, change: Change): Promise<boolean>;

  /**
   * Deletes the records that are there when it begins, in both tiers, expired ones included: no process replays what was
   * purged. Of those in flight at the beginning, the ones that have ended by the end are purged. Records still in flight
   * then, or whose copy in Redis cannot be reached, are left and reported. Reads the whole table once.
   * @param signal once it is aborted, the purge ends between two batches, and reports what it has done
   * @throws InvalidOptionsError also if no condition is given
   */
  abstract purge(
    filter: RecordFilter,
    change: Change,
    onProgress?: (progress: PurgeProgress) => void,
    signal?: AbortSignal,
  ): Promise<PurgeReport>;

  /** How many records this application has in the table, and how this process fares. */
  abstract stats(options?: StatsOptions): Promise<AdminStats>;

  /**
   * How a request would be named: key, scope, fingerprint, hash of the record, and where each comes from. A made-up
   * request goes through middleware and guards, and no further: no handler runs, and no store is asked. Side effects of
   * middleware and guards, such as rate limits, count it.
   */
  abstract explain(request: RequestDescription): Promise<Explanation>;
}
