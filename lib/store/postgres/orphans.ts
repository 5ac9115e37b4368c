import { Logger } from '@nestjs/common';
import { routeOf } from '../../core/scope-parts';
import type { PostgresConnection } from './connection/postgres.connection';
import type { TableNames } from './schema/table-name';

/** What the gauges show. */
export interface OrphanReport {
  readonly count: number;
  /** Seconds since the lease of the oldest one lapsed; 0 without any. */
  readonly oldest: number;
}

interface OrphanRow {
  readonly hash: string;
  readonly scope: string;
  readonly attempt: number;
  readonly age: number;
  readonly count: number;
  readonly oldest: number;
}

/** Milliseconds between two looks. */
const INTERVAL = 30_000;
/** Soon, as a process that was killed and started again has left its own. */
const FIRST_LOOK_WITHIN = 5_000;
const LINES_PER_LOOK = 10;
/** Of many that appear at once, those that have no line yet wait for the next look. */
const ROWS_PER_LOOK = 1_000;
/** Hashes of orphans that were logged. Beyond that many, one may be logged again. */
const MOST_PUT_STEPS = 10_000;

/**
 * The newest orphans, each with the count and the age of all: claims whose lease has lapsed. The partial index holds
 * claims in progress alone, and a renewal, which leaves expires_at alone, writes nothing to it.
 *
 * Parameters: rows at most.
 */
const orphans = (table: string): string => `
  WITH orphan AS MATERIALIZED (
    SELECT id, scope, attempt, extract(epoch FROM now() - lease_until)::float8 AS age FROM ${table}
    WHERE state = 'in_progress' AND lease_until <= now() AND expires_at > now()
  ), whole AS (SELECT count(*)::integer AS count, max(age) AS oldest FROM orphan)
  SELECT encode(id, 'hex') AS hash, scope, attempt, age, count, oldest
  FROM orphan, whole ORDER BY age LIMIT $1::integer`;

/**
 * Looks for claims whose lease has lapsed and that no request has taken over: their owner was killed, and the handler
 * may have run. Every instance looks, as each has its own gauges; and each logs an orphan once.
 */
export class OrphanWatch {
  private readonly logger = new Logger('Idempotency');
  private readonly statement: string;
  private readonly logged = new Set<string>();
  private timer: NodeJS.Timeout | undefined;
  private stopped = true;

  constructor(
    private readonly connection: PostgresConnection,
    { table }: TableNames,
    private readonly report: (report: OrphanReport) => void,
    private readonly interval = INTERVAL,
  ) {
    this.statement = orphans(table);
  }

  /** The timer keeps no process alive. */
  start(): void {
    this.stopped = false;
    this.schedule(Math.random() * Math.min(this.interval, FIRST_LOOK_WITHIN));
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
  }

  /** @throws StoreUnavailableError, IdempotencySetupError */
  async look(): Promise<void> {
    const run = this.connection.operation('orphans');
    const rows = await run<OrphanRow>(this.statement, [ROWS_PER_LOOK]);
    const [{ count, oldest } = { count: 0, oldest: 0 }] = rows;
    this.report({ count, oldest });
    if (this.logged.size > MOST_PUT_STEPS) this.logged.clear();
    const unlogged = rows.filter(({ hash }) => !this.logged.has(hash));
    for (const row of unlogged.slice(0, LINES_PER_LOOK)) {
      this.logged.add(row.hash);
      this.logger.warn(
        `The owner of a claim is lost, and its outcome unknown: ${routeOf(row.scope) ?? 'no HTTP route'}, attempt ${row.attempt}, ` +
          `lease lapsed ${Math.round(row.age)} s ago, record ${row.hash}`,
      );
    }
  }

  private schedule(pause: number): void {
    this.timer = setTimeout(() => {
      // A Postgres that cannot be asked is logged by those who need its answer.
      void this.look()
        .catch(() => undefined)
        .then(() => {
          if (!this.stopped) this.schedule(this.interval * (0.9 + Math.random() * 0.1));
        });
    }, pause);
    this.timer.unref();
  }
}
