import { Logger } from '@nestjs/common';
import { performance } from 'node:perf_hooks';
import { inBackground } from '../core/background';
import { IdempotencySetupError, StoreError } from '../core/errors';
import { bytesOfOutcome, type Claim, type Outcome, type RecordId } from '../core/record';
import { settledWithin } from '../core/settled-within';
import type { CompleteResult, IdempotencyStore } from '../core/store';
import type { Metrics } from '../core/ports';

export interface Completion {
  readonly claim: Claim;
  readonly outcome: Outcome;
}

interface Expiring<T> {
  readonly write: T;
  readonly expiresAt: number;
}

const FIRST_RETRY = 250;
const LONGEST_RETRY = 1_000;
/** So many failures in a row mean that the arbiter is away, rather than that one write cannot be made. */
const FAILURES_TO_PAUSE = 2;
/** Bounds of the memory that a long outage can take. */
const MAX_BYTES = 64 * 1024 * 1024;
const MAX_RELEASES = 10_000;

/**
 * Completions and releases that the arbiter could not take. They are tried again until they land or expire, and
 * before their key is claimed again in this process.
 */
export class PendingWrites {
  private readonly logger = new Logger('Idempotency');
  private readonly completions = new Map<string, Expiring<Completion>>();
  private readonly releases = new Map<string, Expiring<Claim>>();
  private bytes = 0;
  private retryIn = FIRST_RETRY;
  private timer: NodeJS.Timeout | undefined;
  private stopped = false;
  private full = false;

  /** @param onCompleted told what became of a completion: recorded, or lost to the record that stands instead */
  constructor(
    private readonly arbiter: Pick<IdempotencyStore, 'complete' | 'release'>,
    private readonly metrics: Metrics,
    private readonly onCompleted: (completion: Completion, result: CompleteResult, askedAt: number) => void,
  ) {}

  /** @param ttl milliseconds after which the write is given up */
  complete(completion: Completion, ttl: number): void {
    const { id, fence } = completion.claim;
    const size = sizeOf(completion.outcome);
    const waiting = this.completions.get(id.hash)?.write;
    if (this.stopped || (waiting && waiting.claim.fence >= fence)) return;
    if (waiting) this.dropCompletion(waiting); // its key was claimed anew since: it would be refused
    if (this.bytes + size > MAX_BYTES) {
      if (!this.full)
        this.logger.error(
          `More than ${MAX_BYTES} bytes of outcomes wait for the arbiter: newer ones are dropped`,
        );
      this.full = true;
      return;
    }
    this.bytes += size;
    this.completions.set(id.hash, { write: completion, expiresAt: performance.now() + ttl });
    this.metrics.pendingWrite(1);
    this.schedule();
  }

  /** Releases are a courtesy (the lease lapses anyway), so only so many are kept. */
  release(claim: Claim, ttl: number): void {
    if (this.releases.size >= MAX_RELEASES || this.stopped) return;
    this.releases.set(claim.token, { write: claim, expiresAt: performance.now() + ttl });
    this.metrics.pendingWrite(1);
    this.schedule();
  }

  /** Whether an outcome of this key waits here. */
  holds(id: RecordId): boolean {
    return this.completions.has(id.hash);
  }

  /**
   * Brings the outcome of this key, if one waits here, to the arbiter now: its handler has run.
   * @throws StoreUnavailableError if it still cannot be brought there
   */
  async settle(id: RecordId): Promise<void> {
    const waiting = this.completions.get(id.hash);
    if (waiting) await this.land(waiting.write);
  }

  /** Tries once more what is left, for `timeout` ms at most, and gives up the rest. */
  async stop(timeout: number): Promise<void> {
    clearTimeout(this.timer);
    await settledWithin(this.pass(), timeout);
    this.stopped = true;
    if (this.completions.size > 0) {
      this.logger.error(
        `${this.completions.size} outcomes could not be written to the arbiter before the shutdown`,
      );
    }
    for (const { write } of this.completions.values()) this.dropCompletion(write);
    for (const token of this.releases.keys()) this.dropRelease(token);
  }

  private schedule(): void {
    if (this.timer || this.stopped || this.completions.size + this.releases.size === 0) return;
    const pause = this.retryIn * (0.75 + Math.random() / 2);
    this.timer = inBackground(() => setTimeout(() => void this.flush(), pause));
    this.timer.unref();
  }

  private async flush(): Promise<void> {
    const landed = await this.pass();
    this.timer = undefined;
    this.retryIn = landed ? FIRST_RETRY : Math.min(this.retryIn * 2, LONGEST_RETRY);
    this.schedule();
  }

  /** True if every write was tried: outcomes first, then releases. */
  private async pass(): Promise<boolean> {
    let failures = 0;
    const attempt = async (work: () => Promise<void>): Promise<boolean> => {
      failures = await work().then(
        () => 0,
        () => failures + 1,
      );
      return failures < FAILURES_TO_PAUSE && !this.stopped;
    };
    // A copy: a write that fails goes behind those that were not tried yet.
    for (const { write, expiresAt } of [...this.completions.values()]) {
      if (performance.now() >= expiresAt) this.dropCompletion(write);
      else if (!(await attempt(() => this.land(write)))) return false;
    }
    for (const [token, { write, expiresAt }] of [...this.releases]) {
      if (performance.now() >= expiresAt) this.dropRelease(token);
      else if (!(await attempt(() => this.giveBack(write)))) return false;
    }
    return true;
  }

  private async land(completion: Completion): Promise<void> {
    const { claim, outcome } = completion;
    const askedAt = performance.now();
    try {
      const result = await this.arbiter.complete(claim, outcome);
      if (!result.recorded) this.metrics.leaseLost();
      this.onCompleted(completion, result, askedAt);
    } catch (error) {
      if (isCurable(error)) {
        moveToEnd(this.completions, claim.id.hash);
        throw error;
      }
      // The arbiter has refused this write for good; its monitor has logged why.
    }
    this.dropCompletion(completion);
  }

  private async giveBack(claim: Claim): Promise<void> {
    try {
      await this.arbiter.release(claim);
    } catch (error) {
      if (isCurable(error)) {
        moveToEnd(this.releases, claim.token);
        throw error;
      }
    }
    this.dropRelease(claim.token);
  }

  private dropCompletion(completion: Completion): void {
    const { hash } = completion.claim.id;
    // A later claim's may have taken its place while it was on its way.
    if (this.completions.get(hash)?.write !== completion) return;
    this.completions.delete(hash);
    this.bytes -= sizeOf(completion.outcome);
    this.full = false;
    this.metrics.pendingWrite(-1);
  }

  private dropRelease(token: string): void {
    if (this.releases.delete(token)) this.metrics.pendingWrite(-1);
  }
}

/** An outage ends, and a missing table or right can be fixed while the outcome waits. */
function isCurable(error: unknown): boolean {
  return error instanceof StoreError || error instanceof IdempotencySetupError;
}

function moveToEnd<T>(map: Map<string, T>, key: string): void {
  const value = map.get(key);
  if (value === undefined) return;
  map.delete(key);
  map.set(key, value);
}

function sizeOf(outcome: Outcome): number {
  return bytesOfOutcome(outcome) + 1024;
}
