import { performance } from 'node:perf_hooks';
import type { Lanes } from '../../batching/lanes';
import { isLate } from '../../batching/late';
import { DeadlineError } from './failures';

export interface TurnOptions {
  readonly lanes: Lanes;
  readonly lane: number;
  /** Milliseconds that it has once it has begun. */
  readonly timeout: number;
  /** Monotonic time (ms) by which it must begin. */
  readonly deadline: number;
  readonly onStart?: () => void;
}

/** One operation's way through the lanes, and to Postgres. */
export class Turn {
  readonly lanes: Lanes;
  readonly lane: number;
  /** Monotonic time (ms) at which it was asked for. */
  readonly since = performance.now();
  private started = false;
  private extended = false;
  private deadline: number;

  constructor(private readonly options: TurnOptions) {
    this.lanes = options.lanes;
    this.lane = options.lane;
    this.deadline = options.deadline;
  }

  /** From now on Postgres has its time. */
  start(): void {
    if (this.started) return;
    this.started = true;
    this.deadline = performance.now() + this.options.timeout;
    this.options.onStart?.();
  }

  get isOver(): boolean {
    return performance.now() >= this.deadline;
  }

  /**
   * Settles as `promise` does, or rejects at the deadline. A process that was busy finds its timer due before it has read
   * what Postgres has answered meanwhile, so what has arrived is read first; and what has yet to be sent, such as the next
   * statement of the operation, gets its time.
   * @param cancels where what rejects it before is kept
   */
  withDeadline<T>(promise: Promise<T>, what: string, cancels: Set<(error: Error) => void>): Promise<T> {
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const settle = (outcome: () => void): void => {
        clearTimeout(timer);
        cancels.delete(reject);
        outcome();
      };
      const giveUp = (): void => settle(() => reject(new DeadlineError(what, this.options.timeout)));
      const wait = (): void => {
        const left = Math.max(0, this.deadline - performance.now());
        timer = setTimeout(() => (this.extend() ? wait() : setImmediate(giveUp)), left);
      };
      wait();
      cancels.add(reject);
      promise.then(
        (value) => settle(() => resolve(value)),
        (error: unknown) => settle(() => reject(error instanceof Error ? error : new Error(String(error)))),
      );
    });
  }

  /**
   * Whether the process was too busy to look, and the operation has its whole time again; once at most. What still waits
   * to begin has a limit in the queue that it came from, which would give it up while it is sent.
   */
  private extend(): boolean {
    const { timeout } = this.options;
    const now = performance.now();
    if (!this.started || this.extended || !isLate(now - this.deadline, timeout)) return false;
    this.extended = true;
    this.deadline = now + timeout;
    return true;
  }
}
