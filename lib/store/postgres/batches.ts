import { IdempotencySetupError, OverloadedError, StoreUnavailableError } from '../../core/errors';
import type { BatchTracing } from '../../core/ports';
import type { Durability } from '../../core/policy';
import { Batcher, type BatchBounds, type BatcherOptions, type BatchProgress } from '../batching/batcher';
import {
  BatchTexts,
  claimStatement,
  completeStatement,
  readStatement,
  releaseStatement,
  sizeOfOutcome,
  type BatchStatement,
  type ClaimItem,
  type ClaimRow,
  type CompleteItem,
  type Named,
  type ReadRow,
  type ReleaseItem,
} from './batch-statements';
import type { RecordRow } from './row';
import { DeadlineError } from './connection/failures';
import { Operation } from './connection/operation';
import type { PostgresConnection } from './connection/postgres.connection';

/** Outcomes of more bytes go alone, several at once: one after the other they would hold up the small ones. */
const LARGE = 65_536;

export const BATCH_BOUNDS: BatchBounds = { items: 256, bytes: 1_048_576, inFlight: 1 };

type Failed = (error: unknown) => void;

export interface BatchesOptions {
  /** Milliseconds after its claim, and again after its completion, for which a record answers. */
  readonly retention: number;
  /** How much goes to Postgres together. @default 256 items, 1 MiB, one batch of each kind at a time */
  readonly batches?: BatchBounds;
  /** Claims that may wait to go there. @default any number */
  readonly maxQueuedClaims?: number;
  /** @default batches are not traced */
  readonly tracing?: BatchTracing | undefined;
}

/**
 * The first statement of a claim, a completion and a release, batched with those of other keys. What a batch leaves
 * without an answer goes on by a separate statement: a batch waits for no row that another transaction has locked, and
 * brings no large body.
 */
export class Batches {
  private readonly claims: Record<Durability, Batcher<ClaimItem, ClaimRow | undefined>>;
  private readonly completions: Batcher<CompleteItem, boolean>;
  private readonly releases: Batcher<ReleaseItem, boolean>;
  private readonly reads: Batcher<Pick<Named, 'id'>, ReadRow>;
  private readonly texts: BatchTexts;
  private readonly retention: number;
  /** Keys of claims that are under way in a batch, or wait for one. */
  private readonly claiming = new Set<string>();

  constructor(
    private readonly connection: PostgresConnection,
    table: string,
    options: BatchesOptions,
  ) {
    const { retention, batches: bounds = BATCH_BOUNDS, maxQueuedClaims = Infinity } = options;
    this.retention = retention;
    const texts = (this.texts = new BatchTexts(table));
    const full = (): Error => new OverloadedError('postgres', 'claim', 'claims_queued');
    const batcher = <Item extends Named, Result>(
      name: string,
      statementFor: (items: readonly Item[]) => BatchStatement<Result>,
      more: OptionsOf<Item, Result>,
    ): Batcher<Item, Result> => {
      const traced = options.tracing && { operation: name, by: options.tracing };
      return statementBatcher(connection, name, statementFor, { keyOf: ({ id }) => id, traced, ...more });
    };
    const claimer = (durability: Durability): Batcher<ClaimItem, ClaimRow | undefined> =>
      batcher('claim', (items) => claimStatement(texts, retention, durability, items), {
        bytesOf: ({ scope, key }) => 4 * (scope.length + key.length),
        queue: { max: maxQueuedClaims, full },
        bounds,
      });
    // Apart, as all claims of one batch share its commit.
    this.claims = { durable: claimer('durable'), fast: claimer('fast') };
    this.completions = batcher('complete', (items) => completeStatement(texts, retention, items), {
      bytesOf: sizeOfOutcome,
      bounds,
    });
    this.releases = batcher('release', (items) => releaseStatement(texts, items), {
      bytesOf: () => 0,
      bounds,
    });
    const readMany = (items: readonly Pick<Named, 'id'>[]): BatchStatement<ReadRow> =>
      readStatement(texts, items);
    this.reads = statementBatcher(connection, 'find', readMany, { ...TOGETHER, bounds });
  }

  /** @param resolve told the claim or what stands in its way; undefined if a single statement has to tell */
  claim(
    item: ClaimItem,
    durability: Durability,
    resolve: (row: ClaimRow | undefined) => void,
    reject: Failed,
  ): void {
    const { id } = item;
    // Duplicates would go one per batch: they have a statement each.
    if (this.claiming.has(id)) {
      const statement = claimStatement(this.texts, this.retention, durability, [item]);
      return this.sendAlone('claim', statement, resolve, reject);
    }
    this.claiming.add(id);
    this.claims[durability].add(
      item,
      (row) => {
        this.claiming.delete(id);
        resolve(row);
      },
      (error) => {
        this.claiming.delete(id);
        reject(error);
      },
    );
  }

  /** @param resolve told whether it was recorded; false also if the row was locked by another transaction */
  complete(item: CompleteItem, resolve: (recorded: boolean) => void, reject: Failed): void {
    if (sizeOfOutcome(item) <= LARGE) return this.completions.add(item, resolve, reject);
    this.sendAlone('complete', completeStatement(this.texts, this.retention, [item]), resolve, reject);
  }

  /** @param resolve told whether it was released; false also if the row was locked by another transaction */
  release(item: ReleaseItem, resolve: (released: boolean) => void, reject: Failed): void {
    this.releases.add(item, resolve, reject);
  }

  /** @param resolve told what stands, also if it has expired */
  read(id: string, resolve: (row: RecordRow | undefined) => void, reject: Failed): void {
    const decided = (row: ReadRow): void => {
      if (row !== 'alone') return resolve(row);
      this.sendAlone<ReadRow>('find', readStatement(this.texts, [{ id }]), decided, reject);
    };
    this.reads.add({ id }, decided, reject);
  }

  private sendAlone<Result>(
    name: string,
    { text, values, resultsOf }: BatchStatement<Result>,
    resolve: (result: Result) => void,
    onError: Failed,
  ): void {
    const onRows = (rows: never[]): void => resolve(resultsOf(rows)[0] as Result);
    const { timeout } = this.connection;
    this.connection.send(new Operation(name, { timeout }), { text, values, onRows, onError });
  }
}

type OptionsOf<Item, Result> = Pick<
  BatcherOptions<Item, Result>,
  'bytesOf' | 'queue' | 'bounds' | 'keyOf' | 'afterTurn' | 'traced'
>;

/** For what is asked of many keys in one turn, as polls do. */
export const TOGETHER = { bytesOf: () => 0, afterTurn: true, bounds: BATCH_BOUNDS } as const;

/** Sends items together, by one statement for all of a batch. */
export function statementBatcher<Item, Result>(
  connection: PostgresConnection,
  name: string,
  statementFor: (items: readonly Item[]) => BatchStatement<Result>,
  options: OptionsOf<Item, Result>,
): Batcher<Item, Result> {
  const { timeout } = connection;
  return new Batcher<Item, Result>({
    send: (items, { deadline, onStart, onSend, onResults, onError }: BatchProgress<Result>) => {
      const { text, values, resultsOf } = statementFor(items);
      const onRows = (rows: never[]): void => onResults(resultsOf(rows));
      const operation = new Operation(name, { timeout, deadline, onStart, onSend });
      connection.send(operation, { text, values, onRows, onError });
    },
    // What Postgres has answered with an error had no effect, also where it says that it cannot now.
    isRefusal: (error) =>
      error instanceof StoreUnavailableError ? !error.sent : !(error instanceof IdempotencySetupError),
    expired: (sent, addedAt) =>
      sent || connection.isDownSince(addedAt)
        ? new StoreUnavailableError('postgres', name, new DeadlineError('the statement', timeout), sent)
        : new OverloadedError('postgres', name, 'claims_late'),
    timeout,
    ...options,
  });
}
