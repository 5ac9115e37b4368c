import { performance } from 'node:perf_hooks';
import type { Duration } from '../options/duration';
import { duration } from '../options/schemas';

/** The clock of leases and expiry in a test: it runs as time does, and can be put forward. */
export class TestClock {
  private ahead = 0;

  /** In milliseconds. */
  now(): number {
    return performance.now() + this.ahead;
  }

  /** Lets leases lapse and records expire at once. Handlers, and requests that wait, go by real time. */
  advance(by: Duration): void {
    this.ahead += duration(0).parse(by);
  }
}
