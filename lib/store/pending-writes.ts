import { Logger } from '@nestjs/common';
import { performance } from 'node:perf_hooks';
import { StoreUnavailableError } from '../core/errors';
import type { Claim, Outcome } from '../core/record';
import type { IdempotencyStore } from '../core/store';
import type { IdempotencyMetrics } from '../observability/metrics';

interface Write {
  readonly claim: Claim;
  /** Undefined: the claim is to be released. */
  readonly outcome: Outcome | undefined;
  readonly expiresAt: number;
}

const FIRST_RETRY = 250;
const LONGEST_RETRY = 5_000;
/** Bounds the memory that a long outage can take: the bytes of outcomes held for the arbiter. */
const MAX_BYTES = 64 * 1024 * 1024;

/** Completions and releases that the arbiter could not take: tried again, oldest first, until they land or expire. */
export class PendingWrites {
  private readonly logger = new Logger('Idempotency');
  private readonly writes = new Map<string, Write>();
  private bytes = 0;
  private retryIn = FIRST_RETRY;
  private timer: NodeJS.Timeout | undefined;
  private stopped = false;
  private full = false;

  constructor(
    private readonly arbiter: Pick<IdempotencyStore, 'complete' | 'release'>,
    private readonly metrics: IdempotencyMetrics,
    private readonly onCompleted: (claim: Claim, outcome: Outcome) => void,
  ) {}

  /** @param ttl milliseconds after which the write is given up */
  add(claim: Claim, outcome: Outcome | undefined, ttl: number): void {
    const size = sizeOf(outcome);
    if (this.writes.has(claim.token) || this.stopped) return;
    if (this.bytes + size > MAX_BYTES) {
      if (!this.full)
        this.logger.error(
          `More than ${MAX_BYTES} bytes of outcomes wait for the arbiter: newer ones are dropped`,
        );
      this.full = true;
      return;
    }
    this.bytes += size;
    this.writes.set(claim.token, { claim, outcome, expiresAt: performance.now() + ttl });
    this.metrics.pendingWrite(1);
    this.schedule();
  }

  /** Tries once more what is left, for `timeout` ms at most, and gives up the rest. */
  async stop(timeout: number): Promise<void> {
    clearTimeout(this.timer);
    this.stopped = true;
    const deadline = performance.now() + timeout;
    for (const write of this.writes.values()) {
      if (performance.now() >= deadline || !(await this.land(write))) break;
    }
    if (this.writes.size > 0)
      this.logger.error(
        `${this.writes.size} outcomes could not be written to the arbiter before the shutdown`,
      );
    for (const token of this.writes.keys()) this.drop(token);
  }

  private schedule(): void {
    if (this.timer || this.stopped || this.writes.size === 0) return;
    this.timer = setTimeout(() => void this.flush(), this.retryIn * (0.75 + Math.random() / 2));
    this.timer.unref();
  }

  private async flush(): Promise<void> {
    for (const write of this.writes.values()) {
      if (performance.now() >= write.expiresAt) this.drop(write.claim.token);
      else if (!(await this.land(write))) break;
      if (this.stopped) return;
    }
    this.timer = undefined;
    this.retryIn = this.writes.size > 0 ? Math.min(this.retryIn * 2, LONGEST_RETRY) : FIRST_RETRY;
    this.schedule();
  }

  /** False if the arbiter is still unavailable. */
  private async land({ claim, outcome }: Write): Promise<boolean> {
    try {
      if (!outcome) await this.arbiter.release(claim);
      else if ((await this.arbiter.complete(claim, outcome)).recorded) this.onCompleted(claim, outcome);
      else this.metrics.leaseLost();
    } catch (error) {
      if (error instanceof StoreUnavailableError) return false;
      // The arbiter has refused this write for good; its gate has logged why.
    }
    this.drop(claim.token);
    return true;
  }

  private drop(token: string): void {
    const write = this.writes.get(token);
    if (!write || !this.writes.delete(token)) return;
    this.bytes -= sizeOf(write.outcome);
    this.full = false;
    this.metrics.pendingWrite(-1);
  }
}

function sizeOf(outcome: Outcome | undefined): number {
  return outcome?.kind === 'response' ? outcome.body.length + 1024 : 512;
}
