import { performance } from 'node:perf_hooks';
import { inBackground } from '../core/background';

/** Milliseconds. Most handlers have finished by then, and a duplicate that comes before asks Postgres instead. */
const HINT_AFTER = 50;

/** Puts off what tells the other processes that a request is in flight, until it has been for a while. */
export class InFlightMarkers {
  private readonly timers = new Map<string, NodeJS.Timeout>();

  /**
   * @param token of the claim
   * @param lease milliseconds from now. Once they are over, nothing is written: another claim may have been recorded
   * @param write told how many milliseconds of the lease remain: a process that was busy is late
   */
  schedule(token: string, lease: number, write: (remaining: number) => void): void {
    this.drop(token);
    const leaseUntil = performance.now() + lease;
    const due = (): void => {
      this.timers.delete(token);
      const remaining = leaseUntil - performance.now();
      if (remaining >= 1) write(remaining);
    };
    const timer = inBackground(() => setTimeout(due, HINT_AFTER));
    timer.unref();
    this.timers.set(token, timer);
  }

  drop(token: string): void {
    clearTimeout(this.timers.get(token));
    this.timers.delete(token);
  }

  dropAll(): void {
    for (const token of [...this.timers.keys()]) this.drop(token);
  }
}
