import { setTimeout as delay } from 'node:timers/promises';
import { inBackground } from './background';
import { StoreUnavailableError } from './errors';
import type { InFlightResult } from './in-flight-requests';
import { isOrphaned, type InProgressRecord, type RecordId } from './record';
import type { IdempotencyStore } from './store';
import { wakeAll, type Place } from './waiting-room';

const FIRST_POLL = 25;
const LONGEST_POLL = 500;

/** Asks for the outcome of a key that another process has claimed, for all requests of this process that wait for it. */
export class Poll {
  readonly waiters: Place<InFlightResult> = new Set();

  /** @param record as it was seen last */
  constructor(public record: InProgressRecord) {}
}

/** One poll for each key that requests of this process wait for. It ends with its outcome, or its last waiter. */
export class Polls {
  private readonly polls = new Map<string, Poll>();

  constructor(
    private readonly store: Pick<IdempotencyStore, 'find'>,
    private readonly closing: AbortSignal,
  ) {}

  get(hash: string): Poll | undefined {
    return this.polls.get(hash);
  }

  /** The poll of this key, which is begun if there is none. The caller is to wait at once. */
  of(record: InProgressRecord): Poll {
    const { id } = record;
    const known = this.polls.get(id.hash);
    if (known) {
      known.record = record;
      return known;
    }
    const poll = new Poll(record);
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
      const record = await this.store.find(id);
      if (record?.state === 'completed') return { kind: 'completed', record };
      if (!record || isOrphaned(record)) return { kind: 'open' };
      poll.record = record;
      return undefined;
    } catch (error) {
      if (error instanceof StoreUnavailableError) return undefined;
      return { kind: 'failed', error };
    }
  }
}
