import type { Claim } from './record';

/** What has become of a key's request. `unstorable`: it is over, and its response could not be kept. */
export const RECORD_STATES = ['in_flight', 'orphaned', 'completed', 'unstorable'] as const;

export type RecordState = (typeof RECORD_STATES)[number];

/** A record without its response. */
export interface RecordSummary {
  /** Names the record in both stores: SHA-256 of namespace, scope and key, keyed where there is a `secret`. */
  readonly hash: string;
  readonly scope: string;
  /** Method and path; undefined for work that is not an HTTP request. */
  readonly route: string | undefined;
  /** As the scope spells it, such as `user.id:s:u7`; undefined where callers share their keys. */
  readonly principal: string | undefined;
  readonly key: string;
  readonly state: RecordState;
  readonly attempt: number;
  /** Of the response; undefined while there is none. */
  readonly status: number | undefined;
  /** Of the stored headers and body. */
  readonly bytes: number;
  /** When the key was first claimed. All times are Postgres'. */
  readonly createdAt: Date;
  readonly completedAt: Date | undefined;
  /** When the claim lapses, or has lapsed; undefined once the request is over. */
  readonly leaseUntil: Date | undefined;
  readonly expiresAt: Date;
}

/** Which records. All that is given must hold. */
export interface RecordSelection {
  readonly state?: RecordState;
  readonly scope?: string;
  /** A regular expression that the scope matches, anchored at its start. */
  readonly route?: string;
  /** One of these callers, as the scope spells them. */
  readonly principals?: readonly string[];
  readonly key?: string;
  /** Milliseconds since the key was first claimed. */
  readonly olderThan?: number;
}

export interface RecordPage {
  /** The one that expires last comes first. */
  readonly records: readonly RecordSummary[];
  /** For the next page, also where this one is not full; undefined after the last one. */
  readonly cursor: string | undefined;
}

/** A record that is to be deleted. */
export interface SelectedRecord {
  readonly claim: Claim;
  /** Its handler runs: the lease is alive. */
  readonly inFlight: boolean;
}

/** The selected records of one part of the table. */
export interface RecordBatch {
  readonly records: readonly SelectedRecord[];
  /** From 0 to 1: how much of the table has been read. */
  readonly progress: number;
}

export interface StatsOptions {
  /** Count the records of all namespaces that share the table. @default false */
  readonly wholeTable?: boolean;
}

export interface TableStats {
  /** Of this application; with `wholeTable` of all namespaces. Projected where `estimated` is set. */
  readonly rows: number;
  /** Of the whole table with its indexes, on disk. */
  readonly bytes: number;
  readonly byState: Readonly<Record<RecordState, number>>;
  /** The most frequent routes, at most 50. */
  readonly byRoute: readonly { readonly route: string; readonly rows: number }[];
  /** Whether completed rows and routes are projected from a sample, as the table is large. */
  readonly estimated: boolean;
  /** Seconds since the lease of the oldest orphan lapsed. */
  readonly oldestOrphan: number | undefined;
  /** Seconds since the last pass of the cleanup, which is of the whole table, ended; undefined if there was none. */
  readonly lastCleanup: number | undefined;
  /** Seconds for which the oldest expired row of the whole table has waited for the cleanup. */
  readonly oldestExpired: number | undefined;
}

/** A store whose records can be looked through. */
export interface RecordDirectory {
  /**
   * @param limit records at most
   * @throws StoreUnavailableError
   * @throws InvalidOptionsError for a cursor that no page has given
   */
  list(selection: RecordSelection, limit: number, cursor?: string): Promise<RecordPage>;

  /** Undefined if there is none, or it has expired. @throws StoreUnavailableError */
  find(hash: string): Promise<RecordSummary | undefined>;

  /**
   * All that are selected and were there when it began, expired ones included. Records in progress come last, as what
   * has become of them by then: completed, or still in flight.
   * @throws StoreUnavailableError
   */
  walk(selection: RecordSelection): AsyncIterable<RecordBatch>;

  /** @throws StoreUnavailableError */
  stats(options?: StatsOptions): Promise<TableStats>;
}
