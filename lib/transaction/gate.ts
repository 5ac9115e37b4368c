import { performance } from 'node:perf_hooks';
import { deadlines, type Deadline } from '../core/deadlines';
import { OverloadedError } from '../core/errors';
import { Lanes } from '../store/batching/lanes';

/** Lets so many transactions be open at once; the others queue, in their order, and not without end. */
export class Gate {
  private readonly lanes: Lanes;
  private queued = 0;
  private inside = 0;

  constructor(
    limit: number,
    private readonly maxQueued: number,
  ) {
    this.lanes = new Lanes([limit]);
  }

  get isIdle(): boolean {
    return this.inside + this.queued === 0;
  }

  /**
   * Undefined if it is inside at once. Each that gets inside has to leave.
   * @throws OverloadedError, also as a rejection
   */
  enter(deadline: number): Promise<void> | undefined {
    const waiting = this.lanes.enter(0);
    if (!waiting) {
      this.inside++;
      return undefined;
    }
    if (this.queued >= this.maxQueued) {
      waiting.giveUp();
      throw new OverloadedError('postgres', 'begin', 'transactions_queued');
    }
    return this.queue(waiting, deadline);
  }

  leave(): void {
    this.inside--;
    this.lanes.leave(0);
  }

  private queue(
    { entered, giveUp }: { readonly entered: Promise<void>; readonly giveUp: () => void },
    deadline: number,
  ): Promise<void> {
    this.queued++;
    return new Promise((resolve, reject) => {
      const late: Deadline = {
        dueAt: Math.max(deadline, performance.now()),
        expire: () => {
          settled = true;
          this.queued--;
          giveUp();
          reject(new OverloadedError('postgres', 'begin', 'transactions_late'));
        },
      };
      let settled = false;
      deadlines.add(late);
      void entered.then(() => {
        if (settled) return;
        deadlines.delete(late);
        this.queued--;
        this.inside++;
        resolve();
      });
    });
  }
}
