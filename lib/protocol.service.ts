import { bytesOf, plainDigest, type Digest } from './core/digest';
import { assertKey } from './core/key';
import type { Protocol } from './core/protocol';
import type { WorkInTransaction } from './core/transaction';
import type { TransactionContext } from './transaction/context';
import { isInWorkOf, ownWork } from './transaction/own-work';
import { recordId, type IdempotencyRecord, type RecordId } from './core/record';
import { settleOrphan } from './core/settle-orphan';
import { resolvedOutcome, type Resolution } from './outcome/resolution';
import { assertArguments, assertOpen, invalid } from './options/service-arguments';
import type { TieredStoreService } from './store/tiered-store.service';
import { valueOf, valueOutcome } from './outcome/value-outcome';
import type { LegacyValueLookup } from './options/legacy.options';
import { assertPostgres, resolveLegacy, resolvePolicy, type ModuleSettings } from './options/resolve';
import { lookUpLegacy } from './legacy/legacy-lookup';
import { legacyValue } from './legacy/legacy-outcome';
import { IdempotencyService, type ExecuteOptions, type ScopeOption } from './idempotency.service';

const DEFAULT_SCOPE = 'execute';

/** {@link IdempotencyService} by the protocol that requests go through. */
export class ProtocolService extends IdempotencyService {
  constructor(
    private readonly protocol: Pick<Protocol, 'run'>,
    private readonly store: TieredStoreService,
    private readonly settings: ModuleSettings,
    private readonly digest: Digest = plainDigest,
  ) {
    super();
  }

  async execute<T>(
    key: string,
    fn: (context: TransactionContext) => T | Promise<T>,
    options: ExecuteOptions = {},
  ): Promise<T> {
    assertOpen(this.store.phase);
    const where = 'IdempotencyService.execute';
    assertArguments(where, key, options);
    if (typeof fn !== 'function') throw invalid(where, 'fn', fn, 'a function');
    const { scope = DEFAULT_SCOPE, fingerprint = '', legacy } = options;
    if (typeof fingerprint !== 'string')
      throw invalid(`${where} options`, 'fingerprint', fingerprint, 'a string');
    const policy = resolvePolicy(`${where} options`, options, this.settings.defaults);
    assertPostgres(`${where} options`, policy, this.settings);
    const earlier = resolveLegacy(`${where} options`, legacy);
    assertKey(key, policy.maxKeyLength);

    const id = recordId(scope, key, this.digest);
    const work = { module: this.protocol, hash: id.hash };
    if (policy.inFlight === 'wait' && isInWorkOf(work)) throw waitsForItself();
    const name = `IdempotencyService.execute() in scope ${JSON.stringify(scope)}`;
    let unstored: { value: T } | undefined;
    const result = await this.protocol.run(
      {
        id,
        fingerprint: this.digest.fingerprintOf(bytesOf(fingerprint)),
        policy,
        name,
        legacy:
          earlier &&
          (() =>
            lookUpLegacy(earlier, {
              name,
              lease: policy.lease,
              ask: () => (earlier.lookup as LegacyValueLookup)(key),
              outcomeOf: legacyValue,
            })),
      },
      async ({ context }, transaction) => {
        const run = (): Promise<T> => ownWork(work, () => fn(context as TransactionContext));
        const value = await (transaction ? unlessAborted(transaction, run) : run());
        const outcome = valueOutcome(value, policy.maxBodySize);
        if (outcome.kind === 'tombstone') unstored = { value };
        return outcome;
      },
    );
    // Where its claim was lost, the value that counts is the winner's.
    if (unstored && result.kind === 'executed') return unstored.value;
    return valueOf(result.outcome) as T;
  }

  async find(key: string, options: ScopeOption = {}): Promise<IdempotencyRecord | undefined> {
    return this.store.find(this.idOf('find', key, options));
  }

  async forget(key: string, options: ScopeOption = {}): Promise<boolean> {
    return this.store.forgetKey(this.idOf('forget', key, options));
  }

  async resolve(key: string, resolution: Resolution, options: ScopeOption = {}): Promise<boolean> {
    const id = this.idOf('resolve', key, options);
    const outcome = resolvedOutcome(resolution);
    const record = await this.store.findInArbiter(id);
    return record !== undefined && settleOrphan(this.store, record, outcome);
  }

  private idOf(method: string, key: string, options: ScopeOption): RecordId {
    assertOpen(this.store.phase);
    assertArguments(`IdempotencyService.${method}`, key, options);
    return recordId(options.scope ?? DEFAULT_SCOPE, key, this.digest);
  }
}

function waitsForItself(): Error {
  return new Error(
    'IdempotencyService.execute() is called within the work of the same key and scope, for which it would wait. ' +
      'Give what is within that work another key, or another scope.',
  );
}

/** The work, unless its transaction has to end before it. */
function unlessAborted<T>(transaction: WorkInTransaction, work: () => T | Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    transaction.onAbort(reject);
    void (async () => resolve(await work()))().catch(reject);
  });
}
