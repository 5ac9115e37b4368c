import { performance } from 'node:perf_hooks';
import { isLate } from '../../batching/late';
import { deadlines, type Deadline } from '../../../core/deadlines';

/**
 * Waits for Redis' answer, or until `timeout` ms have passed: some ways through ioredis take longer than its own
 * time-out. One of the two callbacks is called, once.
 */
export class Answer<T> implements Deadline {
  dueAt: number;
  private extended = false;
  private over = false;

  constructor(
    private readonly timeout: number,
    private readonly onValue: (value: T) => void,
    private readonly onError: (error: unknown) => void,
  ) {
    this.dueAt = performance.now() + timeout;
  }

  await(promise: Promise<T>): void {
    deadlines.add(this);
    promise.then(
      (value) => {
        if (this.end()) this.onValue(value);
      },
      (error: unknown) => {
        if (this.end()) this.onError(error);
      },
    );
  }

  /** A process that was busy may not even have written the command: it gets as long again, once. */
  expire(late: number): void {
    if (!this.extended && isLate(late, this.timeout)) {
      this.extended = true;
      this.dueAt = performance.now() + this.timeout;
      return;
    }
    if (this.end()) this.onError(new Error(`no answer within ${this.timeout} ms`));
  }

  private end(): boolean {
    if (this.over) return false;
    deadlines.delete(this);
    return (this.over = true);
  }
}
