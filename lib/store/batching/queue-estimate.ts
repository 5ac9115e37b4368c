/** Weight of the last batch. */
const NEWEST = 0.3;

/** When what waits in a queue will be sent, going by how long the last batches took. */
export class QueueEstimate {
  /** Milliseconds of a batch. */
  private average = 0;

  took(ms: number): void {
    this.average = this.average === 0 ? ms : this.average + NEWEST * (ms - this.average);
  }

  /**
   * @param ahead items in the queue before this one
   * @param perBatch how many go together
   * @returns monotonic time (ms)
   */
  startOf(ahead: number, perBatch: number, now: number): number {
    return now + Math.floor(ahead / perBatch) * this.average;
  }
}
