import { performance } from 'node:perf_hooks';

/** When Postgres last answered, and last failed to: what waits in a queue of ours says nothing about that. */
export class Wire {
  private answeredAt = -Infinity;
  private failedAt = -Infinity;

  answered(): void {
    this.answeredAt = performance.now();
  }

  failed(): void {
    this.failedAt = performance.now();
  }

  /** Whether it has failed since then, and not answered after that. */
  isDownSince(time: number): boolean {
    return this.failedAt >= time && this.answeredAt < this.failedAt;
  }

  /** Whether it has answered since then, and not failed after that. */
  isUpSince(time: number): boolean {
    return this.answeredAt >= time && this.answeredAt >= this.failedAt;
  }
}
