import { createHash } from 'node:crypto';
import { IdempotencyError } from './errors';
import { assertKey } from './key';
import type { IdempotencyContext } from './context';
import type { Protocol } from './protocol';
import { bytesOf, isOrphaned, recordId, type IdempotencyRecord, type Outcome } from './record';
import type { IdempotencyStore } from './store';
import { unsendable } from './stored-outcome';
import type { IdempotencyOptions, PolicyOptions } from '../options/idempotency.options';
import { InvalidOptionsError } from '../options/check';
import { resolvePolicy } from '../options/resolve';

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

/**
 * How an operator settles an unknown outcome: with the value that `execute` shall return, with the response that
 * an HTTP retry shall get, or with `'retry'`, so that the next request runs the handler.
 */
export type Resolution =
  | 'retry'
  | { readonly value: unknown }
  | {
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string | Buffer;
    };

const DEFAULT_SCOPE = 'execute';
const RESOLUTION_LEASE = 30_000;

/** Protects work that is no HTTP request, and lets operators look at records and settle them. */
export class IdempotencyService {
  constructor(
    private readonly protocol: Protocol,
    private readonly store: IdempotencyStore,
    private readonly defaults: IdempotencyOptions,
  ) {}

  /**
   * Runs `fn` once per key and returns its value, to the first caller and to every later one, as JSON gives it
   * back: a `Date` comes as a string. If `fn` throws, its error is passed on and the key is given back.
   *
   * @throws IdempotencyError `key_invalid`; `fingerprint_mismatch`; `in_flight` after `waitTimeout`;
   * `outcome_unknown` with `onOrphan: 'reject'`; `outcome_not_stored` if the value exceeded `maxBodySize` or had no
   * JSON form; `outcome_not_recorded` or `store_unavailable` while no store can be reached
   * @throws InvalidOptionsError
   */
  async execute<T>(
    key: string,
    fn: (context: IdempotencyContext) => T | Promise<T>,
    options: ExecuteOptions = {},
  ): Promise<T> {
    const { scope = DEFAULT_SCOPE, fingerprint = '', ...rest } = options;
    const policy = resolvePolicy('IdempotencyService.execute options', rest, this.defaults);
    assertKey(key, policy.maxKeyLength);

    let unstored: { value: T } | undefined;
    const result = await this.protocol.run(
      { id: recordId(scope, key), fingerprint: sha256(fingerprint), policy },
      async (context) => {
        const value = await fn(context);
        const outcome = outcomeOf(value, policy.maxBodySize);
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
  find(key: string, { scope = DEFAULT_SCOPE }: ScopeOption = {}): Promise<IdempotencyRecord | undefined> {
    return this.store.find(recordId(scope, key));
  }

  /**
   * Deletes the record of a key, so that the next request runs the handler. False if there is none, or if its
   * handler is still running.
   * @throws StoreUnavailableError if one of the tiers cannot be told; nothing is deleted then, or the call can be
   * repeated
   */
  async forget(key: string, { scope = DEFAULT_SCOPE }: ScopeOption = {}): Promise<boolean> {
    const record = await this.store.find(recordId(scope, key));
    return record !== undefined && this.store.forget(record);
  }

  /**
   * Settles the unknown outcome of a key whose owner crashed. False if there is nothing to settle: no record, an
   * outcome already, or an owner that is alive.
   * @throws StoreUnavailableError
   * @throws InvalidOptionsError if Node could not send the given response
   */
  async resolve(
    key: string,
    resolution: Resolution,
    { scope = DEFAULT_SCOPE }: ScopeOption = {},
  ): Promise<boolean> {
    const outcome = resolution === 'retry' ? undefined : resolvedOutcome(resolution);
    const record = await this.store.find(recordId(scope, key));
    if (!record || !isOrphaned(record)) return false;
    const result = await this.store.claim({
      id: record.id,
      fingerprint: record.fingerprint,
      token: crypto.randomUUID(),
      lease: RESOLUTION_LEASE,
      takeOver: true,
      fresh: true,
      durability: 'durable',
    });
    if (!result.claimed) return false;
    if (!outcome) return this.store.release(result.claim);
    return (await this.store.complete(result.claim, outcome)).recorded;
  }
}

function resolvedOutcome(resolution: Exclude<Resolution, 'retry'>): Outcome {
  if ('value' in resolution) return outcomeOf(resolution.value, Infinity);
  const { status, body = '' } = resolution;
  const headers = Object.entries(resolution.headers ?? {});
  const problem = unsendable({ status, headers });
  if (problem !== undefined) throw new InvalidOptionsError('IdempotencyService.resolve', [problem]);
  return { kind: 'response', status, headers, body: Buffer.from(body) };
}

function outcomeOf(value: unknown, maxBodySize: number): Outcome {
  const body = jsonOf(value);
  if (!body) return { kind: 'tombstone', status: 200, reason: 'unstorable' };
  if (body.length > maxBodySize) return { kind: 'tombstone', status: 200, reason: 'too_large' };
  return { kind: 'response', status: 200, headers: [], body };
}

function jsonOf(value: unknown): Buffer | undefined {
  try {
    // Undefined has no JSON form of its own; an empty body stands for it.
    return Buffer.from((JSON.stringify(value) as string | undefined) ?? '');
  } catch {
    return undefined;
  }
}

function valueOf(outcome: Outcome | undefined): unknown {
  if (outcome?.kind !== 'response') {
    throw new IdempotencyError(
      'outcome_not_stored',
      'The work was executed before, but its result could not be stored, so it cannot be returned again.',
    );
  }
  return outcome.body.length === 0 ? undefined : JSON.parse(outcome.body.toString());
}

function sha256(text: string): string {
  return createHash('sha256').update(bytesOf(text)).digest('hex');
}
