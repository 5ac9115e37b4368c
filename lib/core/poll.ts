import { setTimeout as delay } from 'node:timers/promises';
import { inBackground } from './background';
import { StoreError } from './errors';
import type { InFlightResult } from './in-flight-requests';
import { isOrphaned, type InProgressRecord, type RecordId } from './record';
import type { IdempotencyStore } from './store';
import type { TransactionStore } from './transaction';
import { wakeAll, type Place } from './waiting-room';

const FIRST_POLL = 25;
const LONGEST_POLL = 500;

/** Asks for the outcome of a key that another process has claimed, for all requests of this process that wait for it. */
export class Poll {
  readonly waiters: Place<InFlightResult> = new Set();

  /** @param standing what they wait for: a record, as it was seen last, or the end of a transaction */
  constructor(public standing: InProgressRecord | 'locked') {}
}

/** One poll for each key that requests of this process wait for. It ends with its outcome, or its last waiter. */
export class Polls {
  private readonly polls = new Map<string, Poll>();

  constructor(
    private readonly store: Pick<IdempotencyStore, 'find'>,
    private readonly transactions: Pick<TransactionStore, 'look'> | undefined,
    private readonly closing: AbortSignal,
  ) {}

  get(hash: string): Poll | undefined {
    return this.polls.get(hash);
  }

  /** The poll of this key, which is begun if there is none. The caller is to wait at once. */
  of(id: RecordId, standing: Poll['standing']): Poll {
    const known = this.polls.get(id.hash);
    if (known) {
      known.standing = standing;
      return known;
    }
    const poll = new Poll(standing);
    this.polls.set(id.hash, poll);
    void inBackground(() => this.run(id, poll));
    return poll;
  }

  private async run(id: RecordId, poll: Poll): Promise<void> {
    let result: InFlightResult | undefined;
    for (let pause = FIRST_POLL; !result; pause = Math.min(pause * 1.5, LONGEST_POLL)) {
      // Jitter keeps the waiting processes from asking in step.
      await delay(pause * (0.5 + Math.random()), undefined, { signal: this.closing }).catch(() => undefined);
      result = this.closing.aborted || poll.waiters.size === 0 ? { kind: 'open' } : await this.ask(id, poll);
    }
    this.polls.delete(id.hash);
    wakeAll(poll.waiters, result);
  }

  /** Undefined while the record has neither an outcome nor lost its owner, and while that cannot be asked. */
  private async ask(id: RecordId, poll: Poll): Promise<InFlightResult | undefined> {
    try {
      const locked = poll.standing === 'locked';
      const standing = await (locked ? this.transactions?.look(id) : this.store.find(id));
      if (standing === 'locked') return undefined;
      if (standing?.state === 'completed') return { kind: 'completed', record: standing };
      if (!standing || isOrphaned(standing)) return { kind: 'open' };
      poll.standing = standing;
      return undefined;
    } catch (error) {
      if (error instanceof StoreError) return undefined;
      return { kind: 'failed', error };
    }
  }
}
