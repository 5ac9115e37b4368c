import { Logger } from '@nestjs/common';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import type { PostgresConnection } from './connection/postgres.connection';
import { markCleanup } from './schema/marks';
import { cleanUp } from './schema/statements';
import type { TableNames } from './schema/table-name';

export interface ExpiredRecordCleanupOptions {
  /** Milliseconds between two passes. */
  readonly interval: number;
  /** Rows that one statement deletes at most. */
  readonly batchSize: number;
}

/** The first pass starts within this time, so that instances that restart often get to it as well. */
const FIRST_PASS_WITHIN = 60_000;
/** A batch of cold rows may take far longer than a claim, and no request waits for it. */
const BATCH_TIMEOUT = 60_000;
const STOP_TIMEOUT = 1_000;

/** Deletes expired records in the background, on one instance at a time. */
export class ExpiredRecordCleanup {
  private readonly logger = new Logger('Idempotency');
  private readonly statement: string;
  private readonly mark: string;
  private timer: NodeJS.Timeout | undefined;
  private pass: Promise<void> | undefined;
  private stopped = true;
  private failing = false;

  /** @param onPassEnd told the monotonic time (ms) at which a pass of this instance has left no expired row */
  constructor(
    private readonly connection: PostgresConnection,
    names: TableNames,
    private readonly options: ExpiredRecordCleanupOptions,
    private readonly onPassEnd: (at: number) => void = () => undefined,
  ) {
    this.statement = cleanUp(names.table);
    this.mark = markCleanup(names.table);
  }

  /** Starts the passes; the timer keeps no process alive. */
  start(): void {
    if (!this.stopped) return;
    this.stopped = false;
    this.schedule(Math.random() * Math.min(this.options.interval, FIRST_PASS_WITHIN));
  }

  /** Ends the passes, and waits for one under way to end its batch, for a second at most. */
  async stop(): Promise<void> {
    this.stopped = true;
    clearTimeout(this.timer);
    const timer = new AbortController();
    await Promise.race([this.pass, delay(STOP_TIMEOUT, undefined, { signal: timer.signal })]);
    timer.abort();
  }

  /**
   * Deletes expired rows, batch after batch, until there are no more. Does nothing while another instance does so.
   * @param onBatch told how many were deleted so far
   * @returns how many rows this instance deleted
   * @throws StoreUnavailableError, IdempotencySetupError
   */
  async runOnce(onBatch: (deleted: number) => void = () => undefined): Promise<number> {
    return this.deleteAll(() => true, onBatch);
  }

  private async deleteAll(
    goOn: () => boolean,
    onBatch: (deleted: number) => void = () => undefined,
  ): Promise<number> {
    const { batchSize } = this.options;
    for (let total = 0; ;) {
      const run = this.connection.operation('cleanup', { timeout: BATCH_TIMEOUT });
      const [row] = await run<{ deleted: number | null }>(this.statement, [batchSize]);
      const deleted = row?.deleted ?? undefined; // while another instance deletes
      total += deleted ?? 0;
      onBatch(total);
      if (deleted === undefined) return total;
      if (deleted < batchSize) {
        this.onPassEnd(performance.now());
        await run(this.mark, []);
      }
      if (deleted < batchSize || !goOn()) return total;
    }
  }

  private schedule(pause: number): void {
    this.timer = setTimeout(() => {
      this.pass = this.runSafely().finally(() => {
        // Jitter keeps instances that were started together from asking together.
        if (!this.stopped) this.schedule(this.options.interval * (0.9 + Math.random() * 0.1));
      });
    }, pause);
    this.timer.unref();
  }

  private async runSafely(): Promise<void> {
    try {
      const deleted = await this.deleteAll(() => !this.stopped);
      if (deleted > 0) this.logger.debug(`Deleted ${deleted} expired records`);
      this.failing = false;
    } catch (error) {
      // Expired rows that stay a while longer do no harm: once per streak is enough.
      if (!this.failing && !this.stopped)
        this.logger.warn(`Expired records could not be deleted: ${String(error)}`);
      this.failing = true;
    }
  }
}
