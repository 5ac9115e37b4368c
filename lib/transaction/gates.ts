import { Gate } from './gate';

/**
 * The bounds of what is open at once: of one route, where it has one, and of all, so that the pool keeps a connection for
 * a handler that takes a second one.
 */
export class Gates {
  private readonly all: Gate;
  private readonly byName = new Map<string, Gate>();

  constructor(
    poolSize: number,
    private readonly maxQueued: number,
  ) {
    this.all = new Gate(Math.max(poolSize - 1, 1), maxQueued);
  }

  /**
   * @param nested whether another transaction waits for this one. It may have the connection that the pool keeps: it would
   * wait here for those that wait for such as itself
   * @returns what is to be called once the transaction has ended; as a promise if it has to queue
   * @throws OverloadedError, also as a rejection
   */
  enter(
    name: string,
    maxConcurrent: number | undefined,
    deadline: number,
    nested: boolean,
  ): (() => void) | Promise<() => void> {
    const all = nested ? undefined : this.all;
    if (maxConcurrent !== undefined) return this.enterBoth(name, maxConcurrent, all, deadline);
    const leave = (): void => all?.leave();
    return all?.enter(deadline)?.then(() => leave) ?? leave;
  }

  private async enterBoth(
    name: string,
    maxConcurrent: number,
    all: Gate | undefined,
    deadline: number,
  ): Promise<() => void> {
    const own = this.gateOf(name, maxConcurrent);
    const leaveOwn = (): void => {
      own.leave();
      if (own.isIdle) this.byName.delete(name);
    };
    await own.enter(deadline);
    try {
      await all?.enter(deadline);
    } catch (error) {
      leaveOwn();
      throw error;
    }
    return () => {
      all?.leave();
      leaveOwn();
    };
  }

  private gateOf(name: string, limit: number): Gate {
    let gate = this.byName.get(name);
    if (!gate) this.byName.set(name, (gate = new Gate(limit, this.maxQueued)));
    return gate;
  }
}
