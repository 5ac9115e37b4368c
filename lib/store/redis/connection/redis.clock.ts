import { performance } from 'node:perf_hooks';

/**
 * Redis' clock as its last reply showed it, carried on by our monotonic one: what the machine's own clock says does not
 * matter. It lags behind Redis' by that reply's way back and is never ahead (unless Redis' clock is set back), so that
 * a deadline by it has passed at Redis by the time it has passed here.
 */
export class RedisClock {
  private offset: number | undefined;

  /** @param redisTime milliseconds by Redis' clock, from a reply that has just arrived */
  show(redisTime: number): void {
    this.offset = redisTime - performance.now();
  }

  /** Redis' time in ms at this monotonic time; 0 as long as Redis has not been heard. */
  at(monotonic: number): number {
    return this.offset === undefined ? 0 : Math.floor(monotonic + this.offset);
  }

  now(): number {
    return this.at(performance.now());
  }
}
