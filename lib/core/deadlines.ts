import { performance } from 'node:perf_hooks';
import { inBackground } from './background';

/** What is given up at a time. */
export interface Deadline {
  /** Monotonic time (ms); may be put off while it waits. */
  readonly dueAt: number;
  /**
   * Gives up, or puts its time off.
   * @param late milliseconds by which the process was too busy to look
   */
  expire(late: number): void;
}

/**
 * Gives up what is still waiting at its deadline. One timer serves all, and stays when they have settled: to set and
 * clear one for each costs more than a look now and then. It holds no process up that has nothing else to do.
 */
export class Deadlines<T extends Deadline> {
  private readonly waiting = new Set<T>();
  private timer: NodeJS.Timeout | undefined;
  private timerAt = Infinity;

  get all(): readonly T[] {
    return [...this.waiting];
  }

  add(deadline: T): void {
    this.waiting.add(deadline);
    this.lookAt(deadline.dueAt);
  }

  delete(deadline: T): void {
    this.waiting.delete(deadline);
  }

  /** Whether some may have to be given up, which is not known before the next look. */
  isOverdue(now: number): boolean {
    return now >= this.timerAt;
  }

  private lookAt(time: number): void {
    if (time < this.timerAt) this.setTimer(time);
  }

  /** Apart from the look, as V8 makes an object for what a closure holds also where none is made. */
  private setTimer(time: number): void {
    clearTimeout(this.timer);
    this.timerAt = time;
    const pause = Math.max(0, time - performance.now());
    // A process that was busy finds its timer due before it has read what was answered meanwhile: that goes first.
    const due = (): void => {
      const late = performance.now() - time;
      setImmediate(() => this.look(late));
    };
    this.timer = inBackground(() => setTimeout(due, pause));
    this.timer.unref();
  }

  private look(late: number): void {
    this.timerAt = Infinity;
    // A timer counts from the turn of the event loop that set it, and may come a little early.
    const now = performance.now() + 1;
    let next = Infinity;
    for (const deadline of this.waiting) {
      if (deadline.dueAt <= now) deadline.expire(late);
      if (deadline.dueAt > now) next = Math.min(next, deadline.dueAt);
      else this.waiting.delete(deadline);
    }
    if (next < Infinity) this.lookAt(next);
  }
}
