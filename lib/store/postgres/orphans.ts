import { Logger } from '@nestjs/common';
import { performance } from 'node:perf_hooks';
import type { Digest } from '../../core/digest';
import type { Orphan } from '../../core/ports';
import { routeOf } from '../../core/scope-parts';
import { visible } from '../../core/visible';
import { claimsInProgress, type ClaimInProgress } from './claims-in-progress';
import type { PostgresConnection, Run } from './connection/postgres.connection';
import { isMarkedTold, isTold, markTold } from './schema/marks';
import type { TableNames } from './schema/table-name';

/** What the gauges show. */
export interface OrphanReport {
  readonly count: number;
  /** Seconds since the lease of the oldest one lapsed; 0 without any. */
  readonly oldest: number;
}

/** Who is told of orphans. */
export interface OrphanListener {
  /** At each look that Postgres has answered. */
  orphansSeen(report: OrphanReport): void;
  /** @param at monotonic time (ms) of the start, and of the end of each such look */
  orphansSought(at: number): void;
  /** Once for each orphan, in one of the processes of the application. */
  orphaned(orphan: Orphan): void;
}

/** Milliseconds between two looks. */
const INTERVAL = 30_000;
/** Soon, as a process that was killed and started again has left its own. */
const FIRST_LOOK_WITHIN = 5_000;
/** So many looks in a row that fail are logged, once. */
const FAILURES_LOGGED = 3;
/** Of many that appear at once, the others are told at the next looks. */
const TOLD_PER_LOOK = 100;

/** Whether an orphan of the page was told. */
const TOLD = (table: string): string => `, ${isTold(table, 'record.id', 'record.fence')} AS told`;

/** Of the orphans with these ids, marks those that no process has told meanwhile, and names them. Parameters: ids. */
const tell = (table: string): string => `
  WITH orphan AS MATERIALIZED (
    SELECT id, fence, expires_at FROM ${table}
    WHERE id = ANY ($1::bytea[]) AND state = 'in_progress' AND lease_until <= now() AND expires_at > now()
  ), told AS (${markTold(table)})
  SELECT encode(id, 'hex') AS hash FROM orphan JOIN told ON ${isMarkedTold('orphan.id', 'told.told')}`;

/**
 * Looks for claims whose lease has lapsed and that no request has taken over: their owner was killed, and the handler
 * may have run. Every instance looks, as each has its own gauges; an orphan is told, and logged, by the first that sees it.
 * Orphans of other namespaces that share the table are left to their applications. The partial index holds claims in
 * progress alone, and a renewal, which leaves expires_at alone, writes nothing to it.
 */
export class OrphanWatch {
  private readonly logger = new Logger('Idempotency');
  private timer: NodeJS.Timeout | undefined;
  private stopped = true;
  private failures = 0;

  constructor(
    private readonly connection: PostgresConnection,
    private readonly names: TableNames,
    private readonly digest: Digest,
    private readonly listener: OrphanListener,
    private readonly interval = INTERVAL,
  ) {}

  /** The timer keeps no process alive. */
  start(): void {
    this.stopped = false;
    this.listener.orphansSought(performance.now());
    this.schedule(Math.random() * Math.min(this.interval, FIRST_LOOK_WITHIN));
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
  }

  /** @throws StoreUnavailableError, IdempotencySetupError */
  async look(): Promise<void> {
    const { digest } = this;
    const { table } = this.names;
    const untold: ClaimInProgress[] = [];
    let [count, oldest] = [0, 0];
    const pages = claimsInProgress<{ readonly told: boolean }>(() => this.run(), {
      table,
      digest,
      state: 'orphaned',
      more: TOLD(table),
    });
    for await (const page of pages)
      for (const orphan of page) {
        count++;
        oldest = Math.max(oldest, orphan.age);
        if (!orphan.told) untold.push(orphan);
      }
    this.listener.orphansSeen({ count, oldest });
    this.listener.orphansSought(performance.now());
    if (untold.length > 0) await this.tellOnce(untold);
  }

  /** A batch of the cleanup may go first, for longer than Postgres has for this. */
  private run(): Run {
    return this.connection.operation('orphans', { deadline: performance.now() + this.interval });
  }

  private async tellOnce(untold: readonly ClaimInProgress[]): Promise<void> {
    const newest = [...untold].sort((one, other) => one.age - other.age).slice(0, TOLD_PER_LOOK);
    const rows = await this.run()<{ hash: string }>(tell(this.names.table), [
      newest.map(({ hash }) => `\\x${hash}`),
    ]);
    const marked = new Set(rows.map(({ hash }) => hash));
    for (const { hash, scope, attempt, age } of newest)
      if (marked.has(hash)) this.tell({ hash, route: routeOf(scope), attempt, age });
  }

  private tell(orphan: Orphan): void {
    const { hash, route = 'no HTTP route', attempt, age } = orphan;
    this.logger.warn(
      `The owner of a claim is lost, and its outcome unknown: ${visible(route)}, attempt ${attempt}, ` +
        `lease lapsed ${Math.round(age)} s ago, record ${hash}`,
    );
    this.listener.orphaned(orphan);
  }

  private schedule(pause: number): void {
    this.timer = setTimeout(() => {
      void this.lookSafely().then(() => {
        if (!this.stopped) this.schedule(this.interval * (0.9 + Math.random() * 0.1));
      });
    }, pause);
    this.timer.unref();
  }

  /** A Postgres that is down for a while is logged by those who need its answer. */
  private async lookSafely(): Promise<void> {
    try {
      await this.look();
      this.failures = 0;
    } catch (error) {
      if (++this.failures === FAILURES_LOGGED && !this.stopped)
        this.logger.warn(
          `Orphans could not be counted, so their gauges keep the last count: ${String(error)}`,
        );
    }
  }
}
