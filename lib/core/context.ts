import type { HeldLease } from './lease';
import type { Claim } from './record';

/** What a handler can know of the claim under which it runs. */
export interface IdempotencyContext {
  readonly key: string;
  /** 1 at first, more if an earlier owner crashed: its effects may be there already. */
  readonly attempt: number;
  /** Rises with each claim of a key: a resource that keeps the highest it saw can refuse a stale owner's writes. */
  readonly fence: number;
  /** Aborts when the lease was lost. */
  readonly signal: AbortSignal;
}

/** Of a claim that is kept alive. A class, as V8 turns an object literal with a getter into a dictionary. */
export class ClaimContext implements IdempotencyContext {
  readonly key: string;
  readonly attempt: number;
  readonly fence: number;
  readonly #lease: HeldLease;

  constructor({ id, attempt, fence }: Claim, lease: HeldLease) {
    this.key = id.key;
    this.attempt = attempt;
    this.fence = fence;
    this.#lease = lease;
  }

  get signal(): AbortSignal {
    return this.#lease.signal;
  }
}
