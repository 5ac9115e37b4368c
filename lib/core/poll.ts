import { performance } from 'node:perf_hooks';
import { Alarm } from './deadlines';
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
  /** Monotonic times (ms): it is asked between the two, together with others. While it is asked, they are infinite. */
  soonestAt = Infinity;
  dueAt = Infinity;
  private pause = FIRST_POLL;

  /** @param standing what they wait for: a record, as it was seen last, or the end of a transaction */
  constructor(
    readonly id: RecordId,
    public standing: InProgressRecord | 'locked',
  ) {}

  /** Jitter keeps the waiting processes from asking in step. */
  schedule(): void {
    this.soonestAt = performance.now() + this.pause / 2;
    this.dueAt = this.soonestAt + this.pause * Math.random();
    this.pause = Math.min(this.pause * 1.5, LONGEST_POLL);
  }

  asked(): void {
    this.soonestAt = this.dueAt = Infinity;
  }
}

/**
 * One poll for each key that requests of this process wait for. It ends with its outcome, or its last waiter. Where one
 * is due, all others go along that have waited for half of their pause: the store can answer them together.
 */
export class Polls {
  private readonly polls = new Map<string, Poll>();
  private readonly alarm = new Alarm(() => this.look());

  constructor(
    private readonly store: Pick<IdempotencyStore, 'find'>,
    private readonly transactions: Pick<TransactionStore, 'look'> | undefined,
    private readonly closing: AbortSignal,
  ) {
    closing.addEventListener('abort', () => this.endAll(), { once: true });
  }

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
    const poll = new Poll(id, standing);
    this.polls.set(id.hash, poll);
    this.schedule(poll);
    return poll;
  }

  private schedule(poll: Poll): void {
    poll.schedule();
    this.alarm.set(poll.dueAt);
  }

  private look(): void {
    const now = performance.now() + 1; // an alarm may come a little early
    for (const poll of [...this.polls.values()]) {
      if (poll.soonestAt > now) this.alarm.set(poll.dueAt);
      else if (poll.waiters.size === 0 || this.closing.aborted) this.end(poll, { kind: 'open' });
      else void this.askOnce(poll);
    }
  }

  private async askOnce(poll: Poll): Promise<void> {
    poll.asked();
    const result = await this.ask(poll);
    if (this.polls.get(poll.id.hash) !== poll) return; // the application closes
    if (result) this.end(poll, result);
    else this.schedule(poll);
  }

  private end(poll: Poll, result: InFlightResult): void {
    this.polls.delete(poll.id.hash);
    wakeAll(poll.waiters, result);
  }

  /** Others may begin yet, by requests that have run their handlers. */
  private endAll(): void {
    this.alarm.clear();
    for (const poll of [...this.polls.values()]) this.end(poll, { kind: 'open' });
  }

  /** Undefined while the record has neither an outcome nor lost its owner, and while that cannot be asked. */
  private async ask(poll: Poll): Promise<InFlightResult | undefined> {
    const { id } = poll;
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
