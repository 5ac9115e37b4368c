import { performance } from 'node:perf_hooks';
import type { Claim } from './record';
import type { IdempotencyStore } from './store';

/** Why a handler's signal was aborted: another request may have taken its key over. */
export class LeaseLostError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'LeaseLostError';
  }
}

/** A claim that is being kept alive. */
export interface HeldLease {
  /** Aborts with {@link LeaseLostError} once the claim no longer stands, or could not be renewed in time. */
  readonly signal: AbortSignal;
  /** Ends the renewals. The claim itself is completed or released by its owner. */
  drop(): void;
}

interface Entry {
  readonly claim: Claim;
  readonly lease: number;
  readonly abort: AbortController;
  /** Monotonic time at which the last renewal that succeeded was asked for. */
  renewedAt: number;
  dueAt: number;
}

/**
 * Keeps the claims of this process alive: each is renewed every third of its lease, and all that are due
 * together go in one statement. Only elapsed (monotonic) time is measured here; the lease itself runs on the
 * store's clock.
 */
export class LeaseKeeper {
  private readonly entries = new Map<string, Entry>();
  private timer: NodeJS.Timeout | undefined;
  private timerAt = Infinity;
  private beating = false;

  constructor(private readonly store: Pick<IdempotencyStore, 'renew'>) {}

  /** @param claimedAt monotonic time before the claim was sent, so that we never believe in a longer lease than the store does */
  hold(claim: Claim, lease: number, claimedAt: number): HeldLease {
    const abort = new AbortController();
    const entry: Entry = { claim, lease, abort, renewedAt: claimedAt, dueAt: claimedAt + lease / 3 };
    this.entries.set(claim.token, entry);
    this.schedule();
    return {
      signal: abort.signal,
      drop: () => {
        this.entries.delete(claim.token);
        this.schedule();
      },
    };
  }

  /** Ends every renewal; what is still claimed lapses. */
  stop(): void {
    this.entries.clear();
    this.schedule();
  }

  private schedule(): void {
    let earliest = Infinity;
    for (const entry of this.entries.values()) earliest = Math.min(earliest, entry.dueAt);
    if (this.beating || earliest === this.timerAt) return;
    clearTimeout(this.timer);
    this.timerAt = earliest;
    if (earliest === Infinity) return;
    this.timer = setTimeout(() => void this.beat(), Math.max(0, earliest - performance.now()));
    this.timer.unref();
  }

  private async beat(): Promise<void> {
    this.beating = true;
    this.timerAt = Infinity;
    const startedAt = performance.now();
    const due = new Map<number, Entry[]>();
    for (const entry of this.entries.values()) {
      // What is due soon goes along, so that claims made moments apart settle into one beat.
      if (entry.dueAt - startedAt > entry.lease / 6) continue;
      const group = due.get(entry.lease) ?? [];
      group.push(entry);
      due.set(entry.lease, group);
    }
    await Promise.all([...due].map(([lease, group]) => this.renew(group, lease, startedAt)));
    this.beating = false;
    this.schedule();
  }

  private async renew(group: Entry[], lease: number, startedAt: number): Promise<void> {
    const held = await this.store
      .renew(
        group.map((entry) => entry.claim),
        lease,
      )
      .catch(() => undefined); // the tiered store has counted and logged it
    for (const entry of group) {
      if (held?.has(entry.claim.token)) {
        entry.renewedAt = startedAt;
        entry.dueAt = startedAt + lease / 3;
      } else if (held) {
        this.entries.delete(entry.claim.token);
        // A claim that its owner dropped while this beat was under way has not been lost.
        entry.abort.abort(new LeaseLostError('the lease was lost: another request may own this key now'));
      } else {
        const now = performance.now();
        entry.dueAt = now + Math.min(lease / 6, 1_000);
        if (now - entry.renewedAt >= lease) {
          entry.abort.abort(
            new LeaseLostError('the lease could not be renewed in time: the store is unavailable'),
          );
        }
      }
    }
  }
}
