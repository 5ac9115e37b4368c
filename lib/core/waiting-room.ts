import { performance } from 'node:perf_hooks';
import type { ObservedRequest, RequestObserver, ShedReason } from './ports';
import { ClientLeftError, IdempotencyError } from './errors';
import { WaitingGroups, type Member, type WaitingGroup } from './waiting-groups';

export interface WaitingBounds {
  /** Requests of this process that may wait at once. */
  readonly maxWaitersTotal: number;
  /** Bytes that the bodies of waiting requests may have together. */
  readonly maxWaitingBytes: number;
}

type WaitingObserver = Pick<RequestObserver, 'shed' | 'waiting'>;

/** A request that may wait. */
export interface WaitingRequest extends ObservedRequest {
  readonly id: NonNullable<ObservedRequest['id']>;
  /** Kept by the room in which it waits. */
  waited?: number;
  readonly policy: { readonly maxWaiters: number };
  /** Bytes of its body; asked for once it waits. */
  bytes?(): number;
  /**
   * Calls the listener once the client has left, at once if it has already; asked for once the request waits.
   * @returns what ends that
   */
  onClientLeft?(listener: () => void): () => void;
}

export interface WaitOptions {
  /** Monotonic time (ms) at which it has waited long enough. @default never: what it waits for has its own end */
  readonly deadline?: number;
  /** Its handler has run, so it is neither turned away nor dropped. */
  readonly exempt?: boolean;
}

/** Requests that wait for the same event. */
export type Place<T> = Set<Waiter<T>>;

/** One request that waits. */
export class Waiter<T> {
  private timer: NodeJS.Timeout | undefined;
  private stopListening: (() => void) | undefined;
  private group: WaitingGroup | undefined;
  /** Monotonic time (ms). */
  private readonly since = performance.now();

  constructor(
    private readonly place: Place<T>,
    readonly request: WaitingRequest,
    readonly bytes: number,
    private readonly resolve: (event: T | undefined) => void,
    private readonly reject: (error: Error) => void,
  ) {
    place.add(this);
  }

  enter(group: WaitingGroup): void {
    this.group = group;
    group.add(this);
  }

  expireIn(ms: number): void {
    this.timer = setTimeout(() => this.wake(undefined), ms);
  }

  listen(): void {
    const stop = this.request.onClientLeft?.(() => this.fail(new ClientLeftError()));
    if (this.place.has(this)) this.stopListening = stop;
    else stop?.();
  }

  /** @param event undefined if it has waited long enough */
  wake(event: T | undefined): void {
    if (this.leave()) this.resolve(event);
  }

  fail(error: Error): void {
    if (this.leave()) this.reject(error);
  }

  private leave(): boolean {
    if (!this.place.delete(this)) return false;
    const { request } = this;
    request.waited = (request.waited ?? 0) + performance.now() - this.since;
    clearTimeout(this.timer);
    this.stopListening?.();
    this.group?.remove(this);
    return true;
  }
}

/**
 * Where requests wait for what another one finds out. Their number and the bytes of their bodies are bounded: past a
 * bound the key with the most of it is turned away first. A request whose client leaves is dropped at once.
 */
export class WaitingRoom {
  private readonly groups: WaitingGroups;

  constructor(
    private readonly bounds: WaitingBounds,
    private readonly observer: WaitingObserver,
  ) {
    this.groups = new WaitingGroups((requests, bytes) => observer.waiting(requests, bytes));
  }

  /**
   * The event, once the place is woken; undefined at the deadline.
   * @throws IdempotencyError `overloaded`; ClientLeftError
   */
  wait<T>(place: Place<T>, request: WaitingRequest, options: WaitOptions = {}): Promise<T | undefined> {
    const { deadline = Infinity, exempt = false } = options;
    const left = deadline - performance.now();
    if (left <= 0) return Promise.resolve(undefined);
    return new Promise((resolve, reject) => {
      const waiter = new Waiter<T>(place, request, exempt ? 0 : (request.bytes?.() ?? 0), resolve, reject);
      if (Number.isFinite(left)) waiter.expireIn(left);
      if (exempt) return;
      waiter.enter(this.groups.of(request.id.hash));
      this.enforceBounds(waiter);
      if (place.has(waiter)) waiter.listen();
    });
  }

  private enforceBounds<T>(waiter: Waiter<T>): void {
    const { id, policy } = waiter.request;
    const { groups, bounds } = this;
    if (groups.of(id.hash).size > policy.maxWaiters) this.shed(waiter, 'waiters_of_key');
    if (groups.requests > bounds.maxWaitersTotal) this.shed(groups.noisiest('size').newest, 'waiters');
    while (groups.bytes > bounds.maxWaitingBytes) this.shed(groups.noisiest('bytes').newest, 'waiting_bytes');
  }

  private shed(waiter: Member, reason: ShedReason): void {
    this.observer.shed(waiter.request, reason);
    waiter.fail(overloaded('Too many requests wait in this process'));
  }
}

export function wakeAll<T>(place: Place<T>, event: T): void {
  for (const waiter of [...place]) waiter.wake(event);
}

/** Seconds, spread so that those that were turned away together do not come back together. */
const RETRY_AFTER = { from: 1, to: 5 } as const;

export function overloaded(what: string, cause?: unknown): IdempotencyError {
  const { from, to } = RETRY_AFTER;
  return new IdempotencyError(
    'overloaded',
    `${what}, so this one was turned away and nothing was executed for it. Retry later with the same key.`,
    { retryAfter: from + Math.floor(Math.random() * (to - from + 1)), cause },
  );
}
