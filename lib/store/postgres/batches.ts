import { IdempotencySetupError, OverloadedError, StoreUnavailableError } from '../../core/errors';
import type { Durability } from '../../core/policy';
import { Batcher, type BatchBounds, type BatcherOptions } from '../batching/batcher';
import { DeadlineError } from './connection/failures';
import type { PostgresConnection, Run } from './connection/postgres.connection';
import type { RecordRow } from './row';
import * as statements from './schema/statements';

/** The fence of the claim that was made, or else the record that stands in its way. */
export type ClaimRow = { readonly claimed: number } | (RecordRow & { readonly claimed: null });

/** As Postgres spells bytes. */
export type Bytea = `\\x${string}`;

interface Named {
  readonly id: Bytea;
  readonly token: string;
}

export interface ClaimItem extends Named {
  readonly fingerprint: Bytea;
  readonly lease: number;
  readonly scope: string;
  readonly key: string;
}

export interface ReleaseItem extends Named {
  readonly fence: number;
}

export interface CompleteItem extends ReleaseItem {
  readonly status: number;
  readonly tombstone: string | null;
  /** JSON. */
  readonly headers: string | null;
  readonly body: Buffer | null;
}

/** Outcomes of more bytes go by themselves, several at once: one after the other they would hold up the small ones. */
const LARGE = 65_536;

export const BATCH_BOUNDS: BatchBounds = { items: 256, bytes: 1_048_576, inFlight: 1 };

/**
 * The first statement of a claim, a completion and a release, batched with those of other keys. What a batch leaves
 * without an answer goes on by a statement of its own: a batch waits for no row that somebody else has locked, and
 * brings no large body.
 */
export class Batches {
  private readonly claims: Record<Durability, Batcher<ClaimItem, ClaimRow | undefined>>;
  private readonly completions: Batcher<CompleteItem, boolean>;
  private readonly releases: Batcher<ReleaseItem, boolean>;
  /** Keys of claims that are under way in a batch, or wait for one. */
  private readonly claiming = new Set<string>();

  constructor(
    private readonly connection: PostgresConnection,
    private readonly table: string,
    private readonly retention: number,
    bounds: BatchBounds = BATCH_BOUNDS,
    private readonly maxQueuedClaims = Infinity,
  ) {
    // Apart, as all claims of one batch share its commit.
    this.claims = { durable: this.claimer('durable', bounds), fast: this.claimer('fast', bounds) };
    this.completions = this.batcher('complete', bounds, sizeOfOutcome, (run, items) =>
      this.complete(run, items),
    );
    this.releases = this.batcher(
      'release',
      bounds,
      () => 0,
      (run, items) => this.release(run, items),
    );
  }

  /** The claim or what stands in its way; undefined if a single statement has to tell. */
  async claimOrRead(item: ClaimItem, durability: Durability): Promise<ClaimRow | undefined> {
    const key = item.id;
    // Duplicates would go one per batch: they have a statement each.
    if (this.claiming.has(key)) return (await this.claim(this.alone('claim'), [item], durability))[0];
    this.claiming.add(key);
    try {
      return await this.claims[durability].add(item);
    } finally {
      this.claiming.delete(key);
    }
  }

  /** False also if the row was locked by somebody else. */
  async recorded(item: CompleteItem): Promise<boolean> {
    if (sizeOfOutcome(item) <= LARGE) return this.completions.add(item);
    const [recorded = false] = await this.complete(this.alone('complete'), [item]);
    return recorded;
  }

  /** False also if the row was locked by somebody else. */
  released(item: ReleaseItem): Promise<boolean> {
    return this.releases.add(item);
  }

  private alone(operation: string): Run {
    return this.connection.operation(operation);
  }

  private claimer(durability: Durability, bounds: BatchBounds): Batcher<ClaimItem, ClaimRow | undefined> {
    const size = ({ scope, key }: ClaimItem): number => 4 * (scope.length + key.length);
    const full = (): Error => new OverloadedError('postgres', 'claim', 'claims_queued');
    const queue = { max: this.maxQueuedClaims, full };
    return this.batcher('claim', bounds, size, (run, items) => this.claim(run, items, durability), queue);
  }

  private batcher<Item extends Named, Result>(
    operation: string,
    bounds: BatchBounds,
    bytesOf: (item: Item) => number,
    send: (run: Run, items: readonly Item[]) => Promise<Result[]>,
    queue?: BatcherOptions<Item, Result>['queue'],
  ): Batcher<Item, Result> {
    const { connection } = this;
    const { timeout } = connection;
    return new Batcher<Item, Result>({
      send: (items, deadline, progress) =>
        send(connection.operation(operation, { deadline, ...progress }), items),
      keyOf: ({ id }) => id,
      bytesOf,
      // What Postgres has answered with an error had no effect, also where it says that it cannot now.
      isRefusal: (error) =>
        error instanceof StoreUnavailableError ? !error.sent : !(error instanceof IdempotencySetupError),
      expired: (sent, addedAt) =>
        sent || connection.isDownSince(addedAt)
          ? new StoreUnavailableError(
              'postgres',
              operation,
              new DeadlineError('the statement', timeout),
              sent,
            )
          : new OverloadedError('postgres', operation, 'claims_late'),
      timeout,
      bounds,
      queue,
    });
  }

  private async claim(
    run: Run,
    items: readonly ClaimItem[],
    durability: Durability,
  ): Promise<(ClaimRow | undefined)[]> {
    const [first] = items;
    if (first && items.length === 1) {
      const { id, token, fingerprint, lease, scope, key } = first;
      const values = [id, token, fingerprint, lease, this.retention, scope, key];
      return run<ClaimRow>(statements.claimOrRead(this.table, durability), values);
    }
    const rows = await run<ClaimRow & { id: string }>(statements.claimMany(this.table, durability), [
      byteaArray(items.map(({ id }) => id)),
      items.map(({ token }) => token),
      byteaArray(items.map(({ fingerprint }) => fingerprint)),
      array(items.map(({ lease }) => lease)),
      items.map(({ scope }) => scope),
      items.map(({ key }) => key),
      this.retention,
    ]);
    const byId = new Map(rows.map((row) => [`\\x${row.id}`, row]));
    return items.map((item) => byId.get(item.id));
  }

  private async complete(run: Run, items: readonly CompleteItem[]): Promise<boolean[]> {
    const [first] = items;
    if (first && items.length === 1) {
      const { id, token, fence, status, tombstone, headers, body } = first;
      const values = [id, token, fence, this.retention, status, tombstone, headers, body];
      return [(await run(statements.complete(this.table, { waits: false }), values)).length > 0];
    }
    // One value for all bodies: pg would send an array of them in hexadecimal.
    const bodies = items.map(({ body }) => body ?? Buffer.alloc(0));
    let end = 1;
    const starts = bodies.map(({ length }) => (end += length) - length);
    const rows = await run<{ id: string }>(statements.completeMany(this.table), [
      ...claimsOf(items),
      array(items.map(({ status }) => status)),
      items.map(({ tombstone }) => tombstone),
      items.map(({ headers }) => headers),
      array(starts),
      array(items.map(({ body }) => body?.length ?? null)),
      Buffer.concat(bodies),
      this.retention,
    ]);
    return isIn(rows, items);
  }

  private async release(run: Run, items: readonly ReleaseItem[]): Promise<boolean[]> {
    const [first] = items;
    if (first && items.length === 1) {
      const { id, token, fence } = first;
      return [(await run(statements.release(this.table, { waits: false }), [id, token, fence])).length > 0];
    }
    return isIn(await run<{ id: string }>(statements.releaseMany(this.table), claimsOf(items)), items);
  }
}

function claimsOf(items: readonly ReleaseItem[]): unknown[] {
  return [
    byteaArray(items.map(({ id }) => id)),
    items.map(({ token }) => token),
    array(items.map(({ fence }) => fence)),
  ];
}

/** As Postgres spells it, without a look at each element for what has to be escaped, which costs pg a microsecond. */
function array(elements: readonly (number | null)[]): string {
  return `{${elements.map((element) => element ?? 'NULL').join(',')}}`;
}

function byteaArray(elements: readonly Bytea[]): string {
  return `{${elements.map((element) => `"\\${element}"`).join(',')}}`;
}

function isIn(rows: readonly { id: string }[], items: readonly Named[]): boolean[] {
  const ids = new Set(rows.map(({ id }) => `\\x${id}`));
  return items.map((item) => ids.has(item.id));
}

function sizeOfOutcome({ headers, body }: CompleteItem): number {
  return (headers?.length ?? 0) + (body?.length ?? 0);
}
