import type { Digest } from '../../core/digest';
import { routeOf, withoutIds } from '../../core/scope-parts';
import type {
  RecordBatch,
  RecordDirectory,
  RecordPage,
  RecordSelection,
  RecordSummary,
  SelectedRecord,
  StatsOptions,
  TableStats,
} from '../../core/record-directory';
import { claimsInProgress } from './claims-in-progress';
import type { PostgresConnection, Run } from './connection/postgres.connection';
import { pageOf, summaryOf, type SummaryRow } from './record-pages';
import { lastCleanup } from './schema/marks';
import * as statements from './schema/directory-statements';
import { printable } from './schema/values';

/** Milliseconds: no request waits for these statements, and a condition that no index serves reads the whole table. */
const TIMEOUT = 60_000;
/** Blocks that one statement of a walk reads: 16 MiB. */
const BLOCKS = 2_048;
/** Claims that one statement looks at again. */
const CLAIMS = 1_000;
/** Bytes of rows up to which all are counted; of more, a sample of about so many. */
const COUNTED = 64 * 1024 * 1024;
/** Of a table that several namespaces share, each row that is counted comes here. */
const COUNTED_OF_SHARED = 8 * 1024 * 1024;
const MOST_ROUTES = 50;

interface ClaimRow {
  readonly hash: string;
  readonly scope: string;
  readonly key: string;
  readonly token: string;
  readonly fence: number;
  readonly attempt: number;
  readonly fingerprint: string;
  readonly in_progress: boolean;
  readonly in_flight: boolean;
}

interface InProgressCounts {
  readonly in_flight: number;
  readonly orphaned: number;
  /** Seconds. */
  readonly oldest: number | null;
}

interface CompletedCount {
  readonly route: string;
  readonly unstorable: boolean;
  readonly rows: number;
}

type CompletedId = Pick<SummaryRow, 'hash' | 'scope' | 'key'> & { readonly unstorable: boolean };

/**
 * Looks through the records in Postgres, for operators. Rows of other namespaces are left out: only who knows namespace
 * and secret can tell them by their ids.
 */
export class PostgresDirectory implements RecordDirectory {
  /**
   * @param table for use in SQL
   * @param timeOfPage milliseconds after which a list ends, also if its page is not full
   */
  constructor(
    private readonly connection: PostgresConnection,
    private readonly table: string,
    private readonly digest: Digest,
    private readonly timeOfPage = 10_000,
  ) {}

  list(selection: RecordSelection, limit: number, cursor?: string): Promise<RecordPage> {
    const { table, digest, timeOfPage } = this;
    return pageOf(() => this.run(), { table, digest, time: timeOfPage }, stored(selection), {
      limit,
      cursor,
    });
  }

  async find(hash: string): Promise<RecordSummary | undefined> {
    // By the primary key, so it waits for no other look.
    const run = this.connection.operation('find');
    const [row] = await run<SummaryRow>(statements.summary(this.table), [`\\x${hash}`]);
    return row && summaryOf(row);
  }

  /**
   * A claim that is completed or renewed may move to a block that has been read already. Those in progress are thus
   * remembered, and looked at again once all blocks are read.
   */
  async *walk(selection: RecordSelection): AsyncGenerator<RecordBatch> {
    const wanted = stored(selection);
    const begun = statements.inProgressQuery(this.table, { ...wanted, state: undefined });
    const inProgress = new Set((await this.claims(begun)).map(({ hash }) => hash));
    // Sizes come second: what is complete by then moves no more.
    const leaves = await this.run()<{ name: string; blocks: number; now: number }>(statements.LEAVES, [
      this.table,
    ]);
    const total = leaves.reduce((sum, { blocks }) => sum + blocks, 0);
    let read = 0;
    for (const { name, blocks, now } of leaves) {
      for (let from = 0; from < blocks; from += BLOCKS) {
        const to = Math.min(from + BLOCKS, blocks);
        const rows = await this.claims(statements.blocksQuery(name, wanted, { from, to, until: now }));
        for (const { hash } of rows.filter((row) => row.in_progress)) inProgress.add(hash);
        read += to - from;
        yield { records: rows.filter((row) => !row.in_progress).map(selected), progress: read / total };
      }
    }
    const until = leaves[0]?.now ?? 0;
    const left = [...inProgress];
    for (let at = 0; at < left.length; at += CLAIMS) {
      const hashes = left.slice(at, at + CLAIMS);
      const rows = await this.claims(statements.claimsQuery(this.table, wanted, { hashes, until }));
      yield { records: rows.map(selected), progress: 1 };
    }
  }

  async stats({ wholeTable = false }: StatsOptions = {}): Promise<TableStats> {
    const { table } = this;
    const own = !wholeTable && (await this.isShared());
    const [sizes] = await this.run()<{ heap: number; total: number }>(statements.SIZES, [table]);
    const { heap = 0, total = 0 } = sizes ?? {};
    const read = own ? COUNTED_OF_SHARED : COUNTED;
    const estimated = heap > read;
    const share = estimated ? read / heap : 1;
    const { in_flight, orphaned, oldest } = await (own ? this.ownInProgress() : this.allInProgress());
    const completed = await this.completed({ own, share });
    const byRoute = new Map<string, number>();
    let [replayable, unstorable] = [0, 0];
    for (const { route, unstorable: lost, rows } of completed) {
      const name = withoutIds(route);
      const projected = rows / share;
      byRoute.set(name, (byRoute.get(name) ?? 0) + projected);
      if (lost) unstorable += projected;
      else replayable += projected;
    }
    const byState = {
      in_flight,
      orphaned,
      completed: Math.round(replayable),
      unstorable: Math.round(unstorable),
    };
    return {
      rows: Object.values(byState).reduce((sum, rows) => sum + rows, 0),
      bytes: total,
      byState,
      byRoute: [...byRoute]
        .map(([route, rows]) => ({ route: route || 'no HTTP route', rows: Math.round(rows) }))
        .sort((one, other) => other.rows - one.rows)
        .slice(0, MOST_ROUTES),
      estimated,
      oldestOrphan: oldest ?? undefined,
      lastCleanup: await this.age(lastCleanup(table)),
      oldestExpired: await this.age(statements.oldestExpired(table)),
    };
  }

  /** Whether there are records of other namespaces, which only their ids tell from ours. */
  private async isShared(): Promise<boolean> {
    const [row] = await this.run()<{ shared: boolean }>(statements.sharing(this.table), []);
    return row?.shared ?? false;
  }

  private async allInProgress(): Promise<InProgressCounts> {
    const [counts] = await this.run()<InProgressCounts>(statements.inProgressCounts(this.table), []);
    return counts ?? { in_flight: 0, orphaned: 0, oldest: null };
  }

  private async ownInProgress(): Promise<InProgressCounts> {
    const { table, digest } = this;
    const ages: number[] = [];
    let claims = 0;
    for await (const page of claimsInProgress(() => this.run(), { table, digest })) {
      claims += page.length;
      for (const { age } of page) if (age >= 0) ages.push(age);
    }
    const oldest = ages.reduce((most, age) => Math.max(most, age), 0);
    return {
      in_flight: claims - ages.length,
      orphaned: ages.length,
      oldest: ages.length > 0 ? oldest : null,
    };
  }

  /** @param share of the table that is read, from 0 to 1 */
  private async completed({ own, share }: { own: boolean; share: number }): Promise<CompletedCount[]> {
    const sampled = share < 1;
    const values = sampled ? [100 * share] : [];
    if (!own) return this.run()<CompletedCount>(statements.completedCounts(this.table, sampled), values);
    const rows = await this.run()<CompletedId>(statements.completedIds(this.table, sampled), values);
    return rows
      .filter((row) => this.isOurs(row))
      .map(({ scope, unstorable }) => ({ route: routeOf(scope) ?? '', unstorable, rows: 1 }));
  }

  private async age(text: string): Promise<number | undefined> {
    const [row] = await this.run()<{ age: number }>(text, []);
    return row?.age;
  }

  private async claims({ text, values }: statements.Query): Promise<ClaimRow[]> {
    const rows = await this.run()<ClaimRow>(text, values);
    return rows.filter((row) => this.isOurs(row));
  }

  /** Each statement has the whole time. */
  private run(): Run {
    return this.connection.operation('look', { timeout: TIMEOUT });
  }

  private isOurs({ hash, scope, key }: Pick<SummaryRow, 'hash' | 'scope' | 'key'>): boolean {
    return this.digest.idOf(scope, key) === hash;
  }
}

function selected(row: ClaimRow): SelectedRecord {
  const { hash, scope, key, token, fence, attempt, fingerprint, in_flight } = row;
  return { claim: { id: { scope, key, hash }, token, fence, attempt, fingerprint }, inFlight: in_flight };
}

/** As the columns hold it. */
function stored({ scope, key, ...rest }: RecordSelection): RecordSelection {
  return {
    ...rest,
    ...(scope === undefined ? {} : { scope: printable(scope) }),
    ...(key === undefined ? {} : { key: printable(key) }),
  };
}
