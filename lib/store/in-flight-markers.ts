import { performance } from 'node:perf_hooks';
import { deadlines, type Deadline } from '../core/deadlines';

/** Milliseconds. Most handlers have finished by then, and a duplicate that comes before asks Postgres instead. */
const HINT_AFTER = 50;

/** Puts off what tells the other processes that a request is in flight, until it has been for a while. */
export class InFlightMarkers {
  private readonly byToken = new Map<string, Deadline>();

  /**
   * @param token of the claim
   * @param lease milliseconds from now. Once they are over, nothing is written: another claim may have been recorded
   * @param write told how many milliseconds of the lease remain: a process that was busy is late
   */
  schedule(token: string, lease: number, write: (remaining: number) => void): void {
    this.drop(token);
    const now = performance.now();
    const expire = (): void => {
      this.byToken.delete(token);
      const remaining = now + lease - performance.now();
      if (remaining >= 1) write(remaining);
    };
    const marker = { dueAt: now + HINT_AFTER, expire };
    this.byToken.set(token, marker);
    deadlines.add(marker);
  }

  drop(token: string): void {
    const marker = this.byToken.get(token);
    if (!marker) return;
    this.byToken.delete(token);
    deadlines.delete(marker);
  }

  dropAll(): void {
    for (const token of [...this.byToken.keys()]) this.drop(token);
  }
}
