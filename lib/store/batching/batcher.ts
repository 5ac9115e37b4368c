import { performance } from 'node:perf_hooks';
import { inBackground } from '../../core/background';
import type { BatchTracing } from '../../core/ports';
import { deadlines, type Deadline } from '../../core/deadlines';
import { isLate } from './late';
import { QueueEstimate } from './queue-estimate';

export interface BatcherOptions<Item, Result> {
  /** Sends one batch, and tells what becomes of it. */
  readonly send: (items: readonly Item[], batch: BatchProgress<Result>) => void;
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
  /** What traces these batches, and under which name. */
  readonly traced?: { readonly operation: string; readonly by: BatchTracing } | undefined;
}

/** To be told of what becomes of a batch. One of the last two is called, once. */
export interface BatchProgress<Result> {
  /** Monotonic time (ms) by which the batch must have begun, if `onStart` is called. */
  readonly deadline: number;
  /** What it waited for is there: from now on its items have `timeout` ms. */
  readonly onStart: () => void;
  /** It may take effect. */
  readonly onSend: () => void;
  /** One result per item, in their order. */
  readonly onResults: (results: readonly Result[]) => void;
  readonly onError: (error: unknown) => void;
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

class Entry<Item, Result> implements Deadline {
  /** Its batch has begun. */
  started = false;
  sent = false;
  /** Its deadline was put off, as the process was busy. */
  extended = false;
  settled = false;

  constructor(
    readonly item: Item,
    readonly addedAt: number,
    public dueAt: number,
    readonly resolve: (result: Result) => void,
    readonly reject: (error: unknown) => void,
    private readonly onExpire: (entry: Entry<Item, Result>, late: number) => void,
  ) {}

  expire(late: number): void {
    this.onExpire(this, late);
  }
}

/**
 * Sends items that arrive while others are under way together, as the next batch. Nothing waits for company for longer
 * than a turn of the event loop: where nothing is under way, an item goes at once and alone.
 */
export class Batcher<Item, Result> {
  private queue: Entry<Item, Result>[] = [];
  private inFlight = 0;
  private flushing = false;
  /** Whether the last batch had more than one item. */
  private meeting = false;
  private readonly estimate = new QueueEstimate();

  constructor(private readonly options: BatcherOptions<Item, Result>) {}

  /**
   * By callbacks, of which one is called, once: a promise, if one is needed, is made by the caller.
   * @param resolve told the result of this item
   * @param reject told by the item's deadline, also if its batch is still under way
   */
  add(item: Item, resolve: (result: Result) => void, reject: (error: unknown) => void): void {
    const { timeout, queue, expired } = this.options;
    const addedAt = performance.now();
    const dueAt = addedAt + timeout;
    const ahead = this.queue.length;
    if (queue && (ahead >= queue.max || this.startOf(ahead, addedAt) > dueAt))
      return reject(ahead >= queue.max ? queue.full(addedAt) : expired(false, addedAt));
    const entry = new Entry(item, addedAt, dueAt, resolve, reject, this.expire);
    deadlines.add(entry);
    this.queue.push(entry);
    this.options.traced?.by.add(entry);
    if (!this.goesLater) inBackground(this.flushSoon);
  }

  private readonly expire = (entry: Entry<Item, Result>, late: number): void => {
    const { timeout, expired } = this.options;
    // One that has begun has a limit in what sends it, which knows best and has to come first.
    const wasBusy = entry.started ? late > 0 : isLate(late, timeout);
    if (wasBusy && !entry.extended) {
      entry.extended = true;
      entry.dueAt = performance.now() + timeout + MARGIN;
    } else this.fail(entry, expired(entry.sent, entry.addedAt));
  };

  private fulfil(entry: Entry<Item, Result>, result: Result): void {
    if (!this.settle(entry)) return;
    try {
      entry.resolve(result);
    } catch (error) {
      entry.reject(error); // or the others of its batch would wait without end
    }
  }

  private fail(entry: Entry<Item, Result>, error: unknown): void {
    if (this.settle(entry)) entry.reject(error);
  }

  /** False if it was settled before. */
  private settle(entry: Entry<Item, Result>): boolean {
    if (entry.settled) return false;
    deadlines.delete(entry);
    return (entry.settled = true);
  }

  /** Whether a batch that is to come in any case takes along what is added now. */
  private get goesLater(): boolean {
    return this.flushing || this.inFlight >= this.options.bounds.inFlight;
  }

  /**
   * Where items meet, once everything else that has arrived by now has been looked at, as it may bring more of them.
   * For Postgres that alone makes a process a third faster at 64 in flight; an item that is alone is not held up for it.
   */
  private readonly flushSoon = (): void => {
    if (this.queue.length === 0 || this.goesLater) return;
    if (!this.options.afterTurn && !this.meeting && this.inFlight === 0) return this.flush();
    this.flushing = true;
    setImmediate(this.flush);
  };

  private readonly flush = (): void => {
    this.flushing = true; // a batch that ends at once must not begin the next one within this
    while (this.inFlight < this.options.bounds.inFlight) {
      const batch = this.take();
      if (batch.length === 0) break;
      this.meeting = batch.length > 1;
      this.inFlight++;
      this.send(batch, () => {
        this.inFlight--;
        this.giveUpLate();
        this.flushSoon();
      });
    }
    this.flushing = false;
  };

  private startOf(ahead: number, now: number): number {
    const { items, inFlight } = this.options.bounds;
    return this.estimate.startOf(ahead, items * inFlight, now);
  }

  /** What cannot be sent in time, as far as the last batches tell, is told so at once. */
  private giveUpLate(): void {
    const { queue, expired } = this.options;
    if (!queue || this.queue.length === 0) return;
    const now = performance.now();
    if (deadlines.isOverdue(now)) return; // the next look shows whether the process was busy
    this.queue.forEach((entry, ahead) => {
      if (!entry.settled && this.startOf(ahead, now) > entry.dueAt)
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

  /**
   * A batch that has not begun is given up before the first deadline in it: what is told to have failed must not take
   * effect later, where no one gives it back. The others are queued again.
   */
  private send(batch: readonly Entry<Item, Result>[], onEnd: () => void): void {
    const entries = batch.filter((entry) => !entry.settled);
    if (entries.length === 0) return onEnd();
    const { traced } = this.options;
    const ended = traced?.by.begin(traced.operation, entries);
    const before = new Set(entries.filter((entry) => entry.sent));
    const deadline = Math.min(...entries.map((entry) => entry.dueAt)) - MARGIN;
    let startedAt: number | undefined;
    let sent = false;
    const onStart = (): void => {
      startedAt = performance.now();
      for (const entry of entries) {
        entry.started = true;
        entry.dueAt = startedAt + this.options.timeout + MARGIN;
      }
    };
    const onSend = (): void => {
      sent = true;
      for (const entry of entries) entry.sent = true;
    };
    const onResults = (results: readonly Result[]): void => {
      ended?.();
      if (startedAt !== undefined && !entries.some(({ extended }) => extended))
        this.estimate.took(performance.now() - startedAt);
      entries.forEach((entry, index) => this.fulfil(entry, results[index] as Result));
      onEnd();
    };
    const onError = (error: unknown): void => {
      ended?.(error);
      if (sent && entries.length > 1 && this.options.isRefusal(error)) {
        for (const entry of entries) entry.sent = before.has(entry);
        return this.sendEach(entries, onEnd);
      }
      if (startedAt === undefined && performance.now() >= deadline - MARGIN)
        this.retry(entries, deadline, error);
      else for (const entry of entries) this.fail(entry, error);
      onEnd();
    };
    try {
      const items = entries.map((entry) => entry.item);
      this.options.send(items, { deadline, onStart, onSend, onResults, onError });
    } catch (error) {
      onError(error);
    }
  }

  private sendEach(entries: readonly Entry<Item, Result>[], onEnd: () => void): void {
    let left = entries.length;
    for (const entry of entries) this.send([entry], () => --left === 0 && onEnd());
  }

  /** What had more time than the batch gets the rest of it. */
  private retry(batch: readonly Entry<Item, Result>[], deadline: number, error: unknown): void {
    const left = batch.filter((entry) => !entry.settled && entry.dueAt - 2 * MARGIN > deadline);
    for (const entry of batch) if (!left.includes(entry)) this.fail(entry, error);
    this.queue.unshift(...left);
  }
}
