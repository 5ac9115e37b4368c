import { performance } from 'node:perf_hooks';
import { Alarm, deadlines, type Deadline } from './deadlines';
import { isMarked } from './errors';
import type { Claim } from './record';
import type { IdempotencyStore } from './store';

const LEASE_LOST = Symbol.for('nestjs-idempotency.lease-lost');

/**
 * Why a handler's signal was aborted: another request may have taken its key over.
 * Test with {@link isLeaseLostError}.
 */
export class LeaseLostError extends Error {
  readonly [LEASE_LOST] = true;

  constructor(message: string) {
    super(message);
    this.name = 'LeaseLostError';
  }
}

export function isLeaseLostError(error: unknown): error is LeaseLostError {
  return isMarked(error, LEASE_LOST);
}

/** A claim that is being kept alive. */
export interface Lease {
  /** Aborts with {@link LeaseLostError} once the claim no longer stands, or could not be renewed in time. */
  readonly signal: AbortSignal;
  /** Monotonic time (ms) until which the lease certainly holds: afterwards another request may own the key. */
  readonly heldUntil: number;
  /** Ends the renewals. The claim itself is completed or released by its owner. */
  stop(): void;
}

/** A class, as V8 turns an object literal with a getter into a dictionary. */
class Entry implements Lease, Deadline {
  /** Made when a handler asks for its signal, or when it aborts: few ask, and it costs as much as a hash of the request. */
  private aborting: AbortController | undefined;
  /** Monotonic time until which the lease certainly holds. */
  heldUntil = 0;
  /** Monotonic time of its next renewal. */
  renewAt = 0;

  constructor(
    readonly claim: Claim,
    readonly lease: number,
    private readonly onStop: (entry: Entry) => void,
  ) {}

  get signal(): AbortSignal {
    return this.abort.signal;
  }

  private get abort(): AbortController {
    return (this.aborting ??= new AbortController());
  }

  /** @param at monotonic time at which the renewal was asked for */
  renewed(at: number): void {
    const { lease } = this;
    this.heldUntil = at + lease;
    this.renewAt = at + lease / 3;
  }

  get dueAt(): number {
    return this.heldUntil;
  }

  expire(): void {
    this.lose('the lease could not be renewed in time: the store is unavailable');
  }

  lose(why: string): void {
    this.abort.abort(new LeaseLostError(why));
  }

  stop(): void {
    this.onStop(this);
  }
}

/**
 * Keeps the claims of this process alive: each is renewed every third of its lease, and all that are due
 * together go in one statement. Only elapsed (monotonic) time is measured here; the lease itself runs on the
 * store's clock.
 */
export class LeaseManager {
  private readonly entries = new Map<string, Entry>();
  private readonly nextBeat = new Alarm(() => void this.beat());
  private beating = false;
  private largestGroup = Infinity;

  constructor(private readonly store: Pick<IdempotencyStore, 'renew'>) {}

  /** @param claimedAt monotonic time before the claim was sent, so that we never believe in a longer lease than the store does */
  start(claim: Claim, lease: number, claimedAt: number): Lease {
    const entry = new Entry(claim, lease, this.remove);
    this.entries.set(claim.token, entry);
    this.renewed(entry, claimedAt);
    if (!this.beating) this.nextBeat.set(entry.renewAt);
    return entry;
  }

  /** Ends every renewal; what is still claimed lapses. */
  stop(): void {
    for (const entry of this.entries.values()) this.remove(entry);
    this.nextBeat.clear();
  }

  /** A beat that was due for this one alone finds nothing to renew: looking for the next at each stop costs more. */
  private readonly remove = (entry: Entry): void => {
    deadlines.delete(entry);
    this.entries.delete(entry.claim.token);
  };

  private renewed(entry: Entry, at: number): void {
    entry.renewed(at);
    deadlines.add(entry);
  }

  private async beat(): Promise<void> {
    this.beating = true;
    const startedAt = performance.now();
    const due = new Map<number, Entry[]>();
    for (const entry of this.entries.values()) {
      // What is due soon goes along, so that claims made moments apart settle into one beat.
      if (entry.renewAt - startedAt > entry.lease / 6) continue;
      const group = due.get(entry.lease) ?? [];
      group.push(entry);
      due.set(entry.lease, group);
    }
    const groups = [...due].flatMap(([lease, group]) =>
      inGroupsOf(this.largestGroup, group).map((part) => this.renew(part, lease, startedAt)),
    );
    const sizes = await Promise.all(groups);
    if (sizes.length > 0) this.regroup(sizes);
    this.beating = false;
    for (const entry of this.entries.values()) this.nextBeat.set(entry.renewAt);
  }

  /**
   * One row that another transaction has locked fails the statement of its whole group: the next beat goes in halves,
   * until the others are rid of it. If every group fails, it is the store, and halves would not help.
   */
  private regroup(failedSizes: readonly number[]): void {
    const failed = failedSizes.filter((size) => size > 0);
    const storeIsDown = failed.length === failedSizes.length && failed.length > 1;
    const largest = Math.max(0, ...failed);
    this.largestGroup = largest === 0 || storeIsDown ? Infinity : Math.max(1, Math.ceil(largest / 2));
  }

  /** The size of the group if it could not be renewed, else 0. */
  private async renew(group: readonly Entry[], lease: number, startedAt: number): Promise<number> {
    const claims = group.map((entry) => entry.claim);
    const held = await this.store.renew(claims, lease).catch(() => undefined); // the tiered store has said why
    for (const entry of group) {
      // An entry that was stopped meanwhile has not been lost.
      if (this.entries.get(entry.claim.token) !== entry) continue;
      if (held?.has(entry.claim.token)) {
        this.renewed(entry, startedAt);
      } else if (held) {
        this.remove(entry);
        entry.lose('the lease was lost: another request may own this key now');
      } else {
        entry.renewAt = performance.now() + Math.min(lease / 6, RETRY_AFTER);
      }
    }
    return held ? 0 : group.length;
  }
}

const RETRY_AFTER = 1_000;

function inGroupsOf<T>(size: number, list: readonly T[]): T[][] {
  if (list.length <= size) return [[...list]];
  return Array.from({ length: Math.ceil(list.length / size) }, (_, i) =>
    list.slice(i * size, (i + 1) * size),
  );
}
