import { performance } from 'node:perf_hooks';
import { inBackground } from '../../core/background';
import { isLate } from './late';
import { QueueEstimate } from './queue-estimate';

export interface BatcherOptions<Item, Result> {
  /**
   * Sends one batch and answers with one result per item, in their order.
   * @param deadline monotonic time (ms) by which the batch must have begun, if `progress` is told of that
   */
  readonly send: (
    items: readonly Item[],
    deadline: number,
    progress: BatchProgress,
  ) => Promise<readonly Result[]>;
  /** Two items of one key never share a batch; without it, they may. */
  readonly keyOf?: (item: Item) => string;
  readonly bytesOf: (item: Item) => number;
  /** True for an error that says that the batch, which was sent, had no effect, and may be due to one of its items. */
  readonly isRefusal: (error: unknown) => boolean;
  /**
   * What an item is rejected with at its deadline; `sent` is false if it cannot have taken effect.
   * @param addedAt monotonic time (ms)
   */
  readonly expired: (sent: boolean, addedAt: number) => Error;
  /** Milliseconds from when an item is added, and again from when its batch begins, after which it is rejected. */
  readonly timeout: number;
  /** Bounds the queue. @default all wait until their deadline */
  readonly queue?: {
    readonly max: number;
    /** @param addedAt monotonic time (ms) */
    readonly full: (addedAt: number) => Error;
  };
  readonly bounds: BatchBounds;
  /** Whether even a lone item waits for the end of the turn of the event loop: what is done with the others goes first. */
  readonly afterTurn?: boolean;
}

/** To be told of what becomes of a batch. */
export interface BatchProgress {
  /** What it waited for is there: from now on its items have `timeout` ms. */
  readonly onStart: () => void;
  /** It may take effect. */
  readonly onSend: () => void;
}

export interface BatchBounds {
  /** Items of one batch at most. */
  readonly items: number;
  /** Bytes of one batch at most; a single item may have more, and goes alone. */
  readonly bytes: number;
  /** Batches that may be under way at once. */
  readonly inFlight: number;
}

/** Milliseconds by which a batch ends before its items do, so that none of them is given up while it is sent. */
const MARGIN = 5;

interface Entry<Item, Result> {
  readonly item: Item;
  readonly addedAt: number;
  deadline: number;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
  /** Its batch has begun. */
  started: boolean;
  sent: boolean;
  /** Its deadline was put off, as the process was busy. */
  extended: boolean;
  settled: boolean;
}

/**
 * Sends items that arrive while others are under way together, as the next batch. Nothing waits for company for longer
 * than a turn of the event loop: where nothing is under way, an item goes at once and alone.
 */
export class Batcher<Item, Result> {
  private queue: Entry<Item, Result>[] = [];
  /** All that are not settled, the oldest first, so that one timer serves them all. */
  private readonly waiting = new Set<Entry<Item, Result>>();
  private timer: NodeJS.Timeout | undefined;
  /** Monotonic time (ms). */
  private timerDueAt = Infinity;
  private inFlight = 0;
  private flushing = false;
  /** Whether the last batch had more than one item. */
  private meeting = false;
  private readonly estimate = new QueueEstimate();

  constructor(private readonly options: BatcherOptions<Item, Result>) {}

  /** @returns the result of this item; rejects by its deadline, whatever becomes of its batch */
  add(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      const { timeout, queue } = this.options;
      const addedAt = performance.now();
      const deadline = addedAt + timeout;
      const ahead = this.queue.length;
      if (queue && (ahead >= queue.max || this.startOf(ahead, addedAt) > deadline)) {
        reject(ahead >= queue.max ? queue.full(addedAt) : this.options.expired(false, addedAt));
        return;
      }
      const entry: Entry<Item, Result> = {
        item,
        addedAt,
        deadline,
        resolve,
        reject,
        started: false,
        sent: false,
        extended: false,
        settled: false,
      };
      this.waiting.add(entry);
      this.queue.push(entry);
      inBackground(() => {
        if (!this.timer) this.expireAt(deadline, addedAt);
        this.flushSoon();
      });
    });
  }

  private expireAt(deadline: number, now: number): void {
    this.timerDueAt = deadline;
    this.timer = setTimeout(() => {
      const late = performance.now() - deadline;
      // A process that was busy reads first what was answered meanwhile.
      setImmediate(() => this.expire(late));
    }, deadline - now);
  }

  /** @param late milliseconds by which the process was too busy to look */
  private expire(late: number): void {
    this.timer = undefined;
    // A timer counts from the turn of the event loop that set it, and may come a little early.
    const now = performance.now() + 1;
    for (const entry of this.waiting) {
      if (entry.deadline > now) {
        this.expireAt(entry.deadline, now);
        return;
      }
      if (!entry.extended && this.wasBusy(entry, late)) {
        entry.extended = true;
        this.postpone(entry, now + this.options.timeout + MARGIN);
      } else this.fail(entry, this.options.expired(entry.sent, entry.addedAt));
    }
  }

  /** One that has begun has a limit in what sends it, which knows best and has to come first. */
  private wasBusy({ started }: Entry<Item, Result>, late: number): boolean {
    return started ? late > 0 : isLate(late, this.options.timeout);
  }

  private fulfil(entry: Entry<Item, Result>, result: Result): void {
    this.settle(entry);
    entry.resolve(result);
  }

  private fail(entry: Entry<Item, Result>, error: unknown): void {
    this.settle(entry);
    entry.reject(error);
  }

  private settle(entry: Entry<Item, Result>): void {
    entry.settled = true;
    this.waiting.delete(entry);
    if (this.waiting.size > 0) return;
    clearTimeout(this.timer);
    this.timer = undefined;
    this.timerDueAt = Infinity;
  }

  /**
   * Where items meet, once everything else that has arrived by now has been looked at, as it may bring more of them.
   * For Postgres that alone makes a process a third faster at 64 in flight; an item that is alone is not held up for it.
   */
  private flushSoon(): void {
    const { bounds, afterTurn } = this.options;
    if (this.flushing || this.queue.length === 0 || this.inFlight >= bounds.inFlight) return;
    if (!afterTurn && !this.meeting && this.inFlight === 0) return this.flush();
    this.flushing = true;
    setImmediate(() => {
      this.flushing = false;
      this.flush();
    });
  }

  private flush(): void {
    while (this.inFlight < this.options.bounds.inFlight) {
      const batch = this.take();
      if (batch.length === 0) return;
      this.meeting = batch.length > 1;
      this.inFlight++;
      void this.send(batch).finally(() => {
        this.inFlight--;
        this.giveUpLate();
        this.flushSoon();
      });
    }
  }

  private startOf(ahead: number, now: number): number {
    const { items, inFlight } = this.options.bounds;
    return this.estimate.startOf(ahead, items * inFlight, now);
  }

  /** What cannot be sent in time, as far as the last batches tell, is told so at once. */
  private giveUpLate(): void {
    const { queue, expired } = this.options;
    if (!queue || this.queue.length === 0) return;
    const now = performance.now();
    if (now >= this.timerDueAt) return; // the timer knows whether the process was busy
    this.queue.forEach((entry, ahead) => {
      if (!entry.settled && this.startOf(ahead, now) > entry.deadline)
        this.fail(entry, expired(false, entry.addedAt));
    });
    this.queue = this.queue.filter((entry) => !entry.settled);
  }

  /** The first in the queue that fit together; the others keep their order. */
  private take(): Entry<Item, Result>[] {
    const { bounds, keyOf, bytesOf } = this.options;
    const batch: Entry<Item, Result>[] = [];
    const passedOver: Entry<Item, Result>[] = [];
    const keys = new Set<string>();
    let bytes = 0;
    let looked = 0;
    for (const entry of this.queue) {
      if (batch.length >= bounds.items) break;
      if (!entry.settled) {
        const size = bytesOf(entry.item);
        if (batch.length > 0 && bytes + size > bounds.bytes) break;
        const key = keyOf?.(entry.item);
        if (key !== undefined && keys.has(key)) passedOver.push(entry);
        else {
          if (key !== undefined) keys.add(key);
          bytes += size;
          batch.push(entry);
        }
      }
      looked++;
    }
    this.queue = [...passedOver, ...this.queue.slice(looked)];
    return batch;
  }

  /** The oldest deadline stays the first of all that wait: this one is later than any of theirs. */
  private postpone(entry: Entry<Item, Result>, deadline: number): void {
    if (entry.settled) return;
    entry.deadline = deadline;
    this.waiting.delete(entry);
    this.waiting.add(entry);
  }

  /**
   * Never rejects. A batch that has not begun is given up before the first deadline in it: what is told to have failed
   * must not take effect later, where no one gives it back. The others are queued again.
   */
  private async send(batch: readonly Entry<Item, Result>[]): Promise<void> {
    const waiting = batch.filter((entry) => !entry.settled);
    if (waiting.length === 0) return;
    const before = new Set(waiting.filter((entry) => entry.sent));
    const progress: { startedAt?: number; sent: boolean } = { sent: false };
    const onStart = (): void => {
      progress.startedAt = performance.now();
      for (const entry of waiting) {
        entry.started = true;
        this.postpone(entry, progress.startedAt + this.options.timeout + MARGIN);
      }
    };
    const onSend = (): void => {
      progress.sent = true;
      for (const entry of waiting) entry.sent = true;
    };
    const deadline = Math.min(...waiting.map((entry) => entry.deadline)) - MARGIN;
    try {
      const items = waiting.map((entry) => entry.item);
      const results = await this.options.send(items, deadline, { onStart, onSend });
      if (progress.startedAt !== undefined && !waiting.some(({ extended }) => extended))
        this.estimate.took(performance.now() - progress.startedAt);
      waiting.forEach((entry, index) => this.fulfil(entry, results[index] as Result));
    } catch (error) {
      if (progress.sent && waiting.length > 1 && this.options.isRefusal(error)) {
        for (const entry of waiting) entry.sent = before.has(entry);
        await Promise.all(waiting.map((entry) => this.send([entry])));
      } else if (progress.startedAt === undefined && performance.now() >= deadline - MARGIN) {
        this.retry(waiting, deadline, error);
      } else {
        for (const entry of waiting) this.fail(entry, error);
      }
    }
  }

  /** What had more time than the batch gets the rest of it. */
  private retry(batch: readonly Entry<Item, Result>[], deadline: number, error: unknown): void {
    const left = batch.filter((entry) => !entry.settled && entry.deadline - 2 * MARGIN > deadline);
    for (const entry of batch) if (!left.includes(entry)) this.fail(entry, error);
    this.queue.unshift(...left);
  }
}
