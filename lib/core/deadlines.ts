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
 * Gives up what is still waiting at its deadline. To set and clear a timer for each costs more than a look now and then:
 * a timer is set only if no look comes soon enough, and is never cleared. It holds no process up that has nothing else
 * to do.
 */
export class Deadlines {
  private readonly waiting = new Set<Deadline>();
  /** The times of all looks to come, the soonest one last. */
  private readonly looks: number[] = [];
  /** What the last timer was set with. */
  private timers: typeof setTimeout | undefined;

  add(deadline: Deadline): void {
    this.waiting.add(deadline);
    if (this.timers !== setTimeout) this.setAgain();
    this.lookAt(deadline.dueAt);
  }

  delete(deadline: Deadline): void {
    this.waiting.delete(deadline);
  }

  /** Whether some may have to be given up, which is not known before the next look. */
  isOverdue(now: number): boolean {
    return now >= this.nextLook;
  }

  /** A timer that was set under the fake timers of a test may never come, and all later deadlines would wait for its look. */
  private setAgain(): void {
    const { nextLook } = this;
    this.looks.length = 0;
    if (nextLook < Infinity) this.setTimer(nextLook);
  }

  private get nextLook(): number {
    return this.looks.at(-1) ?? Infinity;
  }

  private lookAt(time: number): void {
    if (time < this.nextLook) this.setTimer(time);
  }

  /** Apart from the look, as V8 makes an object for what a closure holds also where none is made. */
  private setTimer(time: number): void {
    this.looks.push(time);
    this.timers = setTimeout;
    const pause = Math.max(0, time - performance.now());
    // A process that was busy finds its timer due before it has read what was answered meanwhile: that goes first.
    const due = (): void => {
      const now = performance.now();
      setImmediate(() => this.look(time, now));
    };
    inBackground(() => setTimeout(due, pause)).unref();
  }

  /** @param now when its timer came: of what has become due since then, the answer may not have been read yet */
  private look(time: number, now: number): void {
    const index = this.looks.indexOf(time);
    if (index < 0) return; // a later look has come before, and has seen to it
    this.looks.length = index;
    // A timer counts from the turn of the event loop that set it, and may come a little early.
    const due = now + 1;
    let next = Infinity;
    for (const deadline of this.waiting) {
      if (deadline.dueAt <= due) deadline.expire(now - time);
      if (deadline.dueAt > due) next = Math.min(next, deadline.dueAt);
      else this.waiting.delete(deadline);
    }
    if (next < Infinity) this.lookAt(next);
  }
}

/** Those of the process: the more wait together, the fewer timers they need. */
export const deadlines = new Deadlines();

/** Calls back at the soonest of the times that it was set to. */
export class Alarm implements Deadline {
  dueAt = Infinity;

  constructor(private readonly ring: () => void) {}

  set(time: number): void {
    if (time >= this.dueAt) return;
    this.dueAt = time;
    deadlines.add(this);
  }

  clear(): void {
    this.dueAt = Infinity;
    deadlines.delete(this);
  }

  expire(): void {
    this.clear();
    this.ring();
  }
}
