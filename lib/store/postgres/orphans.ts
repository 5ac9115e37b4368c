import { Logger } from '@nestjs/common';
import { performance } from 'node:perf_hooks';
import type { Orphan } from '../../core/ports';
import { routeOf } from '../../core/scope-parts';
import type { PostgresConnection } from './connection/postgres.connection';
import { isMarkedTold, markTold } from './schema/marks';
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
  /** Once for each orphan, in one of the processes that share the table. */
  orphaned(orphan: Orphan): void;
}

interface OrphanRow {
  readonly count: number;
  readonly oldest: number;
  /** Null, as all of the orphan, where there is none to be told. */
  readonly hash: string | null;
  readonly scope: string;
  readonly attempt: number;
  readonly age: number;
}

/** Milliseconds between two looks. */
const INTERVAL = 30_000;
/** Soon, as a process that was killed and started again has left its own. */
const FIRST_LOOK_WITHIN = 5_000;
/** So many looks in a row that fail are logged, once. */
const FAILURES_LOGGED = 3;
/** Of many that appear at once, the others are told at the next looks. */
const TOLD_PER_LOOK = 100;

/**
 * The count and the age of all orphans, with those that this look is the first to tell: claims whose lease has lapsed. The
 * partial index holds claims in progress alone, and a renewal, which leaves expires_at alone, writes nothing to it.
 *
 * Parameters: how many are told at most.
 */
const orphans = (table: string): string => `
  WITH orphan AS MATERIALIZED (
    SELECT id, scope, attempt, fence, expires_at, extract(epoch FROM now() - lease_until)::float8 AS age FROM ${table}
    WHERE state = 'in_progress' AND lease_until <= now() AND expires_at > now()
  ), whole AS (
    SELECT count(*)::integer AS count, coalesce(max(age), 0) AS oldest FROM orphan
  ), told AS (${markTold(table, '$1::integer')})
  SELECT count, oldest, encode(id, 'hex') AS hash, scope, attempt, age
  FROM whole LEFT JOIN (orphan JOIN told ON ${isMarkedTold('orphan.id', 'told.told')}) ON true
  ORDER BY age`;

/**
 * Looks for claims whose lease has lapsed and that no request has taken over: their owner was killed, and the handler
 * may have run. Every instance looks, as each has its own gauges; an orphan is told, and logged, by the first that sees it.
 */
export class OrphanWatch {
  private readonly logger = new Logger('Idempotency');
  private readonly statement: string;
  private timer: NodeJS.Timeout | undefined;
  private stopped = true;
  private failures = 0;

  constructor(
    private readonly connection: PostgresConnection,
    { table }: TableNames,
    private readonly listener: OrphanListener,
    private readonly interval = INTERVAL,
  ) {
    this.statement = orphans(table);
  }

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
    // A batch of the cleanup may go first, for longer than Postgres has for this.
    const run = this.connection.operation('orphans', { deadline: performance.now() + this.interval });
    const rows = await run<OrphanRow>(this.statement, [TOLD_PER_LOOK]);
    const [{ count, oldest } = { count: 0, oldest: 0 }] = rows;
    this.listener.orphansSeen({ count, oldest });
    this.listener.orphansSought(performance.now());
    for (const { hash, scope, attempt, age } of rows)
      if (hash !== null) this.tell({ hash, route: routeOf(scope), attempt, age });
  }

  private tell(orphan: Orphan): void {
    const { hash, route = 'no HTTP route', attempt, age } = orphan;
    this.logger.warn(
      `The owner of a claim is lost, and its outcome unknown: ${route}, attempt ${attempt}, ` +
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
