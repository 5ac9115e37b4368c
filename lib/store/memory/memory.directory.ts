import { bytesOfOutcome, type Claim, type Outcome } from '../../core/record';
import type {
  RecordBatch,
  RecordDirectory,
  RecordPage,
  RecordSelection,
  RecordState,
  RecordSummary,
  TableStats,
} from '../../core/record-directory';
import { callerOf, routeOf, withoutIds } from '../../core/scope-parts';
import { InvalidOptionsError } from '../../options/validate';

/** A record in memory; its times in milliseconds by the store's clock. */
export interface MemoryRow {
  readonly claim: Claim;
  readonly outcome: Outcome | undefined;
  readonly leaseUntil: number;
  readonly expiresAt: number;
  readonly createdAt: number;
  readonly completedAt: number | undefined;
}

/** Milliseconds by which two readings of clocks may differ although none was set. */
const CLOCK_STEP = 2;

/** Looks through the records in memory. */
export class MemoryDirectory implements RecordDirectory {
  /** Milliseconds. */
  private ahead = 0;

  /**
   * @param rows those that have not expired
   * @param now the store's clock
   */
  constructor(
    private readonly rows: () => readonly MemoryRow[],
    private readonly now: () => number,
  ) {}

  // eslint-disable-next-line @typescript-eslint/require-await -- a refusal is a rejection
  async list(selection: RecordSelection, limit: number, cursor?: string): Promise<RecordPage> {
    const position = cursor === undefined ? undefined : positionIn(cursor);
    const ordered = this.selected(selection).sort(
      (one, other) => other.expiresAt - one.expiresAt || (one.claim.id.hash < other.claim.id.hash ? 1 : -1),
    );
    const start = position ? ordered.findIndex((row) => isAfter(row, position)) : 0;
    const left = start < 0 ? [] : ordered.slice(start);
    const page = left.slice(0, limit);
    const last = left.length > limit ? page.at(-1) : undefined;
    return {
      records: page.map((row) => this.summaryOf(row)),
      cursor: last && `${last.expiresAt} ${last.claim.id.hash}`,
    };
  }

  find(hash: string): Promise<RecordSummary | undefined> {
    const row = this.rows().find(({ claim }) => claim.id.hash === hash);
    return Promise.resolve(row && this.summaryOf(row));
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- there is nothing to wait for in memory
  async *walk(selection: RecordSelection): AsyncGenerator<RecordBatch> {
    const records = this.selected(selection).map((row) => ({
      claim: row.claim,
      inFlight: this.stateOf(row) === 'in_flight',
    }));
    yield { records, progress: 1 };
  }

  stats(): Promise<TableStats> {
    const rows = this.rows();
    const byState: Record<RecordState, number> = { in_flight: 0, orphaned: 0, completed: 0, unstorable: 0 };
    const byRoute = new Map<string, number>();
    for (const row of rows) {
      byState[this.stateOf(row)] += 1;
      const route = withoutIds(routeOf(row.claim.id.scope) ?? 'no HTTP route');
      byRoute.set(route, (byRoute.get(route) ?? 0) + 1);
    }
    const lapsed = rows.filter((row) => this.stateOf(row) === 'orphaned').map(({ leaseUntil }) => leaseUntil);
    return Promise.resolve({
      rows: rows.length,
      bytes: rows.reduce((sum, { outcome }) => sum + (outcome ? bytesOfOutcome(outcome) : 0), 0),
      byState,
      byRoute: [...byRoute]
        .map(([route, count]) => ({ route, rows: count }))
        .sort((one, other) => other.rows - one.rows),
      estimated: false,
      oldestOrphan: lapsed.length > 0 ? (this.now() - Math.min(...lapsed)) / 1000 : undefined,
      lastCleanup: undefined,
      oldestExpired: undefined,
    });
  }

  private selected({ state, scope, route, principals, key, olderThan }: RecordSelection): MemoryRow[] {
    const pattern = route === undefined ? undefined : new RegExp(route);
    return this.rows().filter((row) => {
      const { id } = row.claim;
      const caller = callerOf(id.scope);
      return (
        (state === undefined || this.stateOf(row) === state) &&
        (scope === undefined || id.scope === scope) &&
        (!pattern || pattern.test(id.scope)) &&
        (!principals || (caller !== undefined && principals.includes(caller))) &&
        (key === undefined || id.key === key) &&
        (olderThan === undefined || row.createdAt <= this.now() - olderThan)
      );
    });
  }

  private stateOf({ outcome, leaseUntil }: MemoryRow): RecordState {
    if (!outcome) return leaseUntil > this.now() ? 'in_flight' : 'orphaned';
    return outcome.kind === 'tombstone' ? 'unstorable' : 'completed';
  }

  /** One value as long as neither clock is set: a record has the same times whenever it is shown. */
  private wallClockAhead(): number {
    const ahead = Date.now() - this.now();
    if (Math.abs(ahead - this.ahead) > CLOCK_STEP) this.ahead = ahead;
    return this.ahead;
  }

  private summaryOf(row: MemoryRow): RecordSummary {
    const { claim, outcome, leaseUntil, expiresAt, createdAt, completedAt } = row;
    const { hash, scope, key } = claim.id;
    const ahead = this.wallClockAhead();
    const date = (time: number): Date => new Date(time + ahead);
    return {
      hash,
      scope,
      route: routeOf(scope),
      principal: callerOf(scope),
      key,
      state: this.stateOf(row),
      attempt: claim.attempt,
      status: outcome?.status,
      bytes: outcome ? bytesOfOutcome(outcome) : 0,
      createdAt: date(createdAt),
      completedAt: completedAt === undefined ? undefined : date(completedAt),
      leaseUntil: outcome ? undefined : date(leaseUntil),
      expiresAt: date(expiresAt),
    };
  }
}

/** The last record of a page. */
interface Position {
  readonly expiresAt: number;
  readonly hash: string;
}

function positionIn(cursor: string): Position {
  const [, last, hash] = /^(\d+(?:\.\d+)?) ([0-9a-f]{64})$/.exec(cursor) ?? [];
  if (last === undefined || hash === undefined)
    throw new InvalidOptionsError('IdempotencyAdmin.list', [
      'option "cursor" is not one that a page has returned',
    ]);
  return { expiresAt: Number(last), hash };
}

function isAfter({ expiresAt, claim }: MemoryRow, last: Position): boolean {
  return expiresAt < last.expiresAt || (expiresAt === last.expiresAt && claim.id.hash < last.hash);
}
