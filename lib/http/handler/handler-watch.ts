import type { ContextSource, IdempotencyContext } from '../../core/context';

/** How often a handler was called for a request that is not known here. */
export interface Starts {
  unknown: number;
}

const watches = new WeakMap<object, HandlerWatch>();
const unwatched = new WeakSet<object>();

/** Undefined for a request that does not run under protection. */
export function watchOf(request: object): HandlerWatch | undefined {
  return watches.get(request);
}

/** A request without protection: that its handler begins says nothing about others. */
export function leaveUnwatched(request: object): void {
  unwatched.add(request);
}

export function isUnwatched(request: unknown): boolean {
  return unwatched.has(request as object);
}

/**
 * Follows one request's handler, as the interceptors around it do not: one that answers 408 in the handler's place
 * does not end the handler, and one that retries runs it more than once.
 */
export class HandlerWatch {
  /** Whether no interceptor listens to the handler any more, so that its answer is lost. */
  abandoned = false;
  /** Whether it was ended after it had given a value: it has done something, and it is unknown how much. */
  cutShort = false;
  private runs = 0;
  private started = false;
  private starts: Starts | undefined;
  private unknownBefore = 0;
  private anySucceeded = false;
  private whenIdle: (() => void) | undefined;

  /** @param claim has what the handler can know of it */
  constructor(
    request: object,
    private readonly claim: ContextSource,
  ) {
    // One map for all that is known of a request: what is in a WeakMap outlives the request's other objects.
    watches.set(request, this);
  }

  get context(): IdempotencyContext {
    return this.claim.context;
  }

  get running(): boolean {
    return this.runs > 0;
  }

  /** Whether the handler itself may have begun. Until then only interceptors and pipes have run. */
  get began(): boolean {
    // A call for another request than those that are known may have been for this one.
    return this.started || (this.starts !== undefined && this.starts.unknown > this.unknownBefore);
  }

  /** @param starts undefined if it is not seen when the handler begins: it is taken to begin at once */
  begin(starts: Starts | undefined): void {
    this.runs += 1;
    if (!starts) this.started = true;
    if (!starts || this.starts) return;
    this.starts = starts;
    this.unknownBefore = starts.unknown;
  }

  /** The handler itself has begun, after its pipes. */
  start(): void {
    this.started = true;
  }

  end(succeeded: boolean): void {
    this.runs -= 1;
    this.anySucceeded ||= succeeded;
    if (!this.running) this.whenIdle?.();
  }

  /** Resolves when the handler does not run any more; true if it ended once without throwing. */
  async succeeded(): Promise<boolean> {
    if (this.running) await new Promise<void>((resolve) => (this.whenIdle = resolve));
    return this.anySucceeded;
  }
}
