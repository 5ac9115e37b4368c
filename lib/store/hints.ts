/** Milliseconds. Most handlers have finished by then, and a duplicate that comes before asks Postgres instead. */
const HINT_AFTER = 50;

/** Puts off what tells the other processes that a request is in flight, until it has been for a while. */
export class Hints {
  private readonly timers = new Map<string, NodeJS.Timeout>();

  /**
   * @param token of the claim
   * @param write told how many milliseconds of the lease are over
   */
  later(token: string, write: (elapsed: number) => void): void {
    const timer = setTimeout(() => {
      this.timers.delete(token);
      write(HINT_AFTER);
    }, HINT_AFTER);
    timer.unref();
    this.timers.set(token, timer);
  }

  drop(token: string): void {
    clearTimeout(this.timers.get(token));
    this.timers.delete(token);
  }
}
