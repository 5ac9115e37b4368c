import type { IdempotencyContext } from './core/context';
import type { IdempotencyRecord } from './core/record';
import type { PolicyOptions, TransactionOptions } from './options/idempotency.options';
import type { LegacyOptions, LegacyValueLookup } from './options/legacy.options';
import type { Resolution } from './outcome/resolution';
import type { TransactionContext } from './transaction/context';

/** Where a record is filed beside its key. */
export interface ScopeOption {
  /**
   * The kind of work that the key belongs to, such as the name of a queue or a job. For the records of an HTTP
   * route it is the answer of `httpScope()`.
   * @default 'execute'
   */
  readonly scope?: string;
}

export interface ExecuteOptions extends PolicyOptions, ScopeOption {
  /** What must be equal when the key is used again, such as the serialised input of a job. @default '' */
  readonly fingerprint?: string;
  /**
   * For a change from another system: looks up what that one has given for a key that is unknown here
   * (docs/guide/migrating.md). The module's `legacy` is for HTTP requests alone.
   * @default none
   */
  readonly legacy?: LegacyValueLookup | LegacyOptions<LegacyValueLookup> | false;
}

/** Protects work that is not an HTTP request, and lets operators look at records and settle them. To be injected. */
export abstract class IdempotencyService {
  /**
   * Runs `fn` once per key and returns its value, to the first caller and to every later one, as JSON gives it
   * back: a `Date` comes as a string. If `fn` throws, its error is passed on and the key is released.
   *
   * @throws IdempotencyError `key_invalid`; `fingerprint_mismatch`; `in_flight` after `waitTimeout`;
   * `outcome_unknown` with `onOrphan: 'reject'`; `outcome_not_stored` if the value exceeded `maxBodySize` or had no
   * JSON form; `outcome_not_recorded` or `store_unavailable` while no store can be reached, or
   * if the lookup of `legacy` failed; `overloaded` while too many wait; `transaction_broken` if `fn` uses a transaction
   * that the application has started around this call
   * @throws Error if it would wait for itself: in `fn` of the same key and scope
   * @throws InvalidOptionsError
   */
  abstract execute<T>(
    key: string,
    fn: (context: TransactionContext) => T | Promise<T>,
    options: ExecuteOptions & { readonly transaction: true | TransactionOptions },
  ): Promise<T>;
  abstract execute<T>(
    key: string,
    fn: (context: IdempotencyContext) => T | Promise<T>,
    options?: ExecuteOptions,
  ): Promise<T>;

  /**
   * The record of a key, whether in progress or completed; undefined if there is none.
   * @throws StoreUnavailableError
   */
  abstract find(key: string, options?: ScopeOption): Promise<IdempotencyRecord | undefined>;

  /**
   * Deletes the record of a key, so that the next request runs the handler. False if there is none, or if its
   * handler is still running.
   * @throws StoreUnavailableError if one of the tiers cannot be told; nothing is deleted then, or the call can be
   * repeated
   */
  abstract forget(key: string, options?: ScopeOption): Promise<boolean>;

  /**
   * Settles the unknown outcome of a key whose owner crashed. False if there is nothing to settle: no record, an
   * outcome already, or an owner that is alive. An outcome that Redis still has is recorded.
   * @throws StoreUnavailableError
   * @throws InvalidOptionsError if the resolution is none, or Node could not send the given response
   */
  abstract resolve(key: string, resolution: Resolution, options?: ScopeOption): Promise<boolean>;
}
