import { Logger } from '@nestjs/common';
import { performance } from 'node:perf_hooks';
import { inBackground } from '../core/background';
import {
  ForgottenRecordError,
  IdempotencySetupError,
  labelOf,
  OverloadedError,
  StoreUnavailableError,
  UnreadableRecordError,
} from '../core/errors';
import type { Tier as TierName } from '../core/record';
import type { TierHealth } from '../observability/health';
import type { Metrics } from '../core/ports';
import { News } from '../observability/news';
import { Backoff } from '../core/backoff';

/** Milliseconds after an outage for which Postgres may lack commits that a crash or a failover has lost. */
const DOUBTED_FOR = 5 * 60_000;

/**
 * Through here goes every operation on a tier: it is timed and its failure counted. Postgres is taken for down as
 * soon as it cannot be asked, and from then on it is probed until it answers; a change is logged once. A single
 * statement that fails again and again, as it meets a locked row, is not news each time. Of Redis its breaker judges, and
 * says so itself.
 */
export class StoreMonitor {
  private readonly logger = new Logger('Idempotency');
  private readonly news = new News();
  private readonly pause = new Backoff();
  private up = true;
  /** Monotonic time (ms) at which the last outage ended. */
  private upSince = -Infinity;
  /** What took it down, as long as that is not logged. */
  private unsaid: StoreUnavailableError | undefined;
  private said = false;
  private timer: NodeJS.Timeout | undefined;
  private closed = false;

  /** @param probe a cheap question, asked in the background while Postgres is down */
  constructor(
    readonly name: TierName,
    private readonly metrics: Metrics,
    private readonly probe?: () => Promise<unknown>,
  ) {
    if (name !== 'redis') metrics.tierUp(name, true);
  }

  /**
   * True from when the tier could not be asked until it has answered for a while: before that it may lack outcomes of
   * which Redis has copies. Of Redis its connection tells.
   */
  get isDoubted(): boolean {
    return !this.up || performance.now() - this.upSince < DOUBTED_FOR;
  }

  /** Observes one operation. Where each request would pay for the promises of this, `answered` and `failed` do as well. */
  async ask<T>(operation: string, call: () => Promise<T>): Promise<T> {
    const startedAt = performance.now();
    try {
      const answer = await call();
      this.answered(operation, startedAt);
      return answer;
    } catch (error) {
      throw this.failed(operation, startedAt, error);
    }
  }

  /** @param startedAt monotonic time (ms) at which the tier was asked */
  answered(operation: string, startedAt: number): void {
    this.report(true);
    this.metrics.storeOperation(this.name, operation, (performance.now() - startedAt) / 1000);
  }

  /**
   * @param startedAt monotonic time (ms) at which the tier was asked
   * @returns the error that the caller is to have
   */
  failed(operation: string, startedAt: number, error: unknown): unknown {
    this.metrics.storeOperation(this.name, operation, (performance.now() - startedAt) / 1000);
    // What waits in this process says nothing about the tier.
    if (error instanceof OverloadedError) return error;
    this.metrics.storeError(this.name);
    if (error instanceof StoreUnavailableError) this.report(false, error);
    else if (error instanceof ForgottenRecordError) this.logger.warn(error.message);
    // Of what it cannot read, Redis' store says which value it is.
    else if (!(error instanceof UnreadableRecordError && this.name === 'redis'))
      this.reportRefusal(operation, error);
    // Without its table a store is of no use, and says so before the statement has had an effect.
    return error instanceof IdempotencySetupError
      ? new StoreUnavailableError(this.name, operation, error, false)
      : error;
  }

  /** Finds out in the background whether the tier answers; does nothing while that is under way. */
  suspect(): void {
    const { probe } = this;
    if (!probe || this.timer || this.closed) return;
    this.timer = inBackground(() => setTimeout(() => void this.ping(probe), this.pause.next()));
    this.timer.unref();
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
  }

  private async ping(probe: () => Promise<unknown>): Promise<void> {
    await this.ask('ping', probe).catch(() => undefined);
    this.timer = undefined;
    if (this.up) return;
    this.sayDown();
    this.suspect();
  }

  private report(up: boolean, error?: StoreUnavailableError): void {
    if (up === this.up || this.name === 'redis') return;
    this.up = up;
    this.metrics.tierUp(this.name, up);
    if (up) {
      this.upSince = performance.now();
      if (this.said) this.logger.log(`${labelOf(this.name)} answers again`);
      this.said = false;
      return;
    }
    this.unsaid = error;
    if (this.news.isNew('unavailable')) this.sayDown();
    this.suspect();
  }

  /** At once after a quiet minute, else as soon as a probe has failed as well. */
  private sayDown(): void {
    if (this.said) return;
    this.said = true;
    this.logger.warn(`${this.unsaid?.message}; new keys are refused or run unprotected until it answers`);
  }

  /** The store answers, but not what it was asked. Each request may meet the same refusal, so a kind is logged once. */
  private reportRefusal(operation: string, error: unknown): void {
    if (this.news.isNew(kindOf(error)))
      this.logger.error(`${labelOf(this.name)} refused to ${operation}`, stackOf(error));
  }
}

/** What a question to a tier tells of it; one that got stuck in this process tells nothing against it. */
export function healthOf(answer: Promise<unknown>): Promise<TierHealth> {
  return answer.then(
    () => 'up' as const,
    (error: unknown) => (error instanceof OverloadedError ? 'up' : 'down'),
  );
}

/** By code, as messages may quote what was sent. */
function kindOf(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  const { code } = error as { code?: unknown };
  if (typeof code === 'string') return code;
  return error.cause === undefined ? error.name : kindOf(error.cause);
}

function stackOf(error: unknown): string | undefined {
  return error instanceof Error ? error.stack : String(error);
}
