import type { Lease } from './lease';
import type { Claim } from './record';

/** What a handler can know of the claim under which it runs. */
export interface IdempotencyContext {
  readonly key: string;
  /** 1 at first, more if an earlier owner crashed: its effects may be there already. */
  readonly attempt: number;
  /** Rises with each claim of a key: a resource that keeps the highest it saw can refuse a stale owner's writes. */
  readonly fence: number;
  /** Aborts when the lease was lost, or when the transaction has to end before the handler. */
  readonly signal: AbortSignal;
  /** Runs work outside of the transaction: what it does is committed at once, and can happen more than once. */
  readonly outside: <T>(work: () => T) => T;
}

/** Where there is no transaction to leave. */
export const runAsItIs = <T>(work: () => T): T => work();

/** Has the context of a claim or of a transaction. */
export interface ContextSource {
  readonly context: IdempotencyContext;
}

/** Makes the context when a handler asks for it: few do, and V8 takes 600 bytes for a literal with a getter. */
export class ClaimContext implements ContextSource {
  private made: IdempotencyContext | undefined;

  constructor(
    private readonly claim: Claim,
    private readonly lease: Lease,
  ) {}

  get context(): IdempotencyContext {
    return (this.made ??= contextOf(this.claim, this.lease));
  }
}

/** A plain object, so that it can be spread. */
function contextOf({ id, attempt, fence }: Claim, lease: Lease): IdempotencyContext {
  return {
    key: id.key,
    attempt,
    fence,
    outside: runAsItIs,
    get signal() {
      return lease.signal;
    },
  };
}
