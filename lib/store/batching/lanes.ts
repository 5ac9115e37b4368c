/** One that waits for its turn. */
interface Waiting {
  readonly enter: () => void;
}

/**
 * Lets so many at once into something that is scarce, by lanes: where more want in, the first lane goes before the
 * second, and so on. The later lanes can never hold all of it, so that an earlier one does not wait for their work.
 */
export class Lanes {
  private readonly inside: number[];
  private readonly queues: Set<Waiting>[];

  /** @param limits how many of each lane and all later ones together may be inside at once; the first is the whole */
  constructor(private readonly limits: readonly number[]) {
    this.inside = limits.map(() => 0);
    this.queues = limits.map(() => new Set());
  }

  /**
   * Undefined if it is inside at once, as mostly. Each that gets inside has to leave.
   * @returns when it is inside, and what gives its place in the queue up before that
   */
  enter(lane: number): { readonly entered: Promise<void>; readonly giveUp: () => void } | undefined {
    if (this.queues[lane]?.size === 0 && this.isFree(lane)) {
      this.count(lane, 1);
      return undefined;
    }
    let enter!: () => void;
    const entered = new Promise<void>((resolve) => (enter = resolve));
    const waiting: Waiting = { enter };
    this.queues[lane]?.add(waiting);
    const giveUp = (): void => {
      // One that was let in as it gave up has a place that it does not want.
      if (!this.queues[lane]?.delete(waiting)) this.leave(lane);
    };
    return { entered, giveUp };
  }

  leave(lane: number): void {
    this.count(lane, -1);
    this.queues.forEach((queue, next) => {
      for (const waiting of queue) {
        if (!this.isFree(next)) break;
        queue.delete(waiting);
        this.count(next, 1);
        waiting.enter();
      }
    });
  }

  private isFree(lane: number): boolean {
    let later = 0;
    for (let each = this.limits.length - 1; each >= 0; each--) {
      later += this.inside[each] ?? 0;
      if (each <= lane && later >= (this.limits[each] ?? 0)) return false;
    }
    return true;
  }

  private count(lane: number, change: 1 | -1): void {
    this.inside[lane] = (this.inside[lane] ?? 0) + change;
  }
}
