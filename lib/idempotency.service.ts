import { bytesOf, plainDigest, type Digest } from './core/digest';
import { assertKey } from './core/key';
import type { IdempotencyContext } from './core/context';
import type { Protocol } from './core/protocol';
import { isOrphaned, recordId, type IdempotencyRecord, type RecordId } from './core/record';
import { resolvedOutcome, type Resolution } from './outcome/resolution';
import { assertArguments, assertOpen, invalid } from './options/service-arguments';
import type { IdempotencyStore, StorePhase } from './core/store';
import { valueOf, valueOutcome } from './outcome/value-outcome';
import type { TransactionContext } from './transaction/context';
import type { WorkInTransaction } from './core/transaction';
import type { IdempotencyOptions, PolicyOptions, TransactionOptions } from './options/idempotency.options';
import { resolvePolicy } from './options/resolve';

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
}

const DEFAULT_SCOPE = 'execute';
const RESOLUTION_LEASE = 30_000;

/** Protects work that is no HTTP request, and lets operators look at records and settle them. */
export class IdempotencyService {
  constructor(
    private readonly protocol: Protocol,
    private readonly store: IdempotencyStore & { readonly phase: StorePhase },
    private readonly defaults: IdempotencyOptions,
    private readonly digest: Digest = plainDigest,
  ) {}

  /**
   * Runs `fn` once per key and returns its value, to the first caller and to every later one, as JSON gives it
   * back: a `Date` comes as a string. If `fn` throws, its error is passed on and the key is given back.
   *
   * @throws IdempotencyError `key_invalid`; `fingerprint_mismatch`; `in_flight` after `waitTimeout`;
   * `outcome_unknown` with `onOrphan: 'reject'`; `outcome_not_stored` if the value exceeded `maxBodySize` or had no
   * JSON form; `outcome_not_recorded` or `store_unavailable` while no store can be reached;
   * `overloaded` while too many wait
   * @throws InvalidOptionsError
   */
  execute<T>(
    key: string,
    fn: (context: TransactionContext) => T | Promise<T>,
    options: ExecuteOptions & { readonly transaction: true | TransactionOptions },
  ): Promise<T>;
  execute<T>(
    key: string,
    fn: (context: IdempotencyContext) => T | Promise<T>,
    options?: ExecuteOptions,
  ): Promise<T>;
  async execute<T>(
    key: string,
    fn: (context: TransactionContext) => T | Promise<T>,
    options: ExecuteOptions = {},
  ): Promise<T> {
    assertOpen(this.store.phase);
    const where = 'IdempotencyService.execute';
    assertArguments(where, key, options);
    if (typeof fn !== 'function') throw invalid(where, 'fn', fn, 'a function');
    const { scope = DEFAULT_SCOPE, fingerprint = '', ...rest } = options;
    if (typeof fingerprint !== 'string')
      throw invalid(`${where} options`, 'fingerprint', fingerprint, 'a string');
    const policy = resolvePolicy(`${where} options`, rest, this.defaults);
    assertKey(key, policy.maxKeyLength);

    let unstored: { value: T } | undefined;
    const result = await this.protocol.run(
      {
        id: recordId(scope, key, this.digest),
        fingerprint: this.digest.fingerprintOf(bytesOf(fingerprint)),
        policy,
        name: `IdempotencyService.execute() in scope ${JSON.stringify(scope)}`,
      },
      async (context, transaction) => {
        const value = await (transaction
          ? unlessAborted(transaction, () => fn(context as TransactionContext))
          : fn(context as TransactionContext));
        const outcome = valueOutcome(value, policy.maxBodySize);
        if (outcome.kind === 'tombstone') unstored = { value };
        return outcome;
      },
    );
    if (unstored) return unstored.value;
    return valueOf(result.outcome) as T;
  }

  /**
   * The record of a key, whether in progress or completed; undefined if there is none.
   * @throws StoreUnavailableError
   */
  async find(key: string, options: ScopeOption = {}): Promise<IdempotencyRecord | undefined> {
    return this.store.find(this.idOf('find', key, options));
  }

  /**
   * Deletes the record of a key, so that the next request runs the handler. False if there is none, or if its
   * handler is still running.
   * @throws StoreUnavailableError if one of the tiers cannot be told; nothing is deleted then, or the call can be
   * repeated
   */
  async forget(key: string, options: ScopeOption = {}): Promise<boolean> {
    const record = await this.store.find(this.idOf('forget', key, options));
    return record !== undefined && this.store.forget(record);
  }

  /**
   * Settles the unknown outcome of a key whose owner crashed. False if there is nothing to settle: no record, an
   * outcome already, or an owner that is alive.
   * @throws StoreUnavailableError
   * @throws InvalidOptionsError if the resolution is none, or Node could not send the given response
   */
  async resolve(key: string, resolution: Resolution, options: ScopeOption = {}): Promise<boolean> {
    const id = this.idOf('resolve', key, options);
    const outcome = resolvedOutcome(resolution);
    const record = await this.store.find(id);
    if (!record || !isOrphaned(record)) return false;
    const result = await this.store.claim({
      id: record.id,
      fingerprint: record.fingerprint,
      token: crypto.randomUUID(),
      lease: RESOLUTION_LEASE,
      takeOver: true,
      bypassCache: true,
      durability: 'durable',
    });
    if (!result.claimed) return false;
    if (!outcome) return this.store.release(result.claim);
    return (await this.store.complete(result.claim, outcome)).recorded;
  }

  private idOf(method: string, key: string, options: ScopeOption): RecordId {
    assertOpen(this.store.phase);
    assertArguments(`IdempotencyService.${method}`, key, options);
    return recordId(options.scope ?? DEFAULT_SCOPE, key, this.digest);
  }
}

/** The work, unless its transaction has to end before it. */
function unlessAborted<T>(transaction: WorkInTransaction, work: () => T | Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    transaction.onAbort(reject);
    void (async () => resolve(await work()))().catch(reject);
  });
}
