import { performance } from 'node:perf_hooks';

const SHORTEST = 250;
const LONGEST = 5_000;
/** Longer than any pause together with the try that follows it. */
const FORGOTTEN_AFTER = 15_000;

/**
 * Pauses between tries: from 250 ms doubling to 5 s, with jitter, so that instances which lost a store together do
 * not come back in step. They start anew once no try was needed for a while, not with the first success: a store that
 * comes and goes is left alone for longer and longer.
 */
export class Backoff {
  private pause = SHORTEST;
  private askedAt = -Infinity;

  /** Milliseconds to wait before the next try. */
  next(): number {
    const now = performance.now();
    const goesOn = now - this.askedAt < FORGOTTEN_AFTER;
    this.pause = goesOn ? Math.min(this.pause * 2, LONGEST) : SHORTEST;
    this.askedAt = now;
    return this.pause * (0.75 + Math.random() / 2);
  }
}
