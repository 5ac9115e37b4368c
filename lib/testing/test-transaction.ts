import { runAsItIs } from '../core/context';
import { IdempotencySetupError, StoreError, type IdempotencyError } from '../core/errors';
import type { Claim, Outcome } from '../core/record';
import type { CompleteResult } from '../core/store';
import type { Transaction } from '../core/transaction';
import type { TransactionContext } from '../transaction/context';
import { conflict, isConflict, timedOut, unresolved } from '../transaction/failures';

/** What a transaction under test does where it is. */
interface Opener {
  complete(outcome: Outcome): Promise<CompleteResult>;
  release(): Promise<unknown>;
  /** Undefined where the application has no DataSource. */
  manager(): TransactionContext['manager'] | undefined;
  ended(): void;
}

/** One request's transaction on records in memory: its claim stands as long as its handler runs. */
export class TestTransaction implements Transaction {
  aborted: IdempotencyError | undefined;
  readonly context: TransactionContext;
  private readonly aborting = new AbortController();
  private readonly onAborted: ((reason: IdempotencyError) => void)[] = [];
  private readonly timer: NodeJS.Timeout;

  /** @param timeout milliseconds for the handler */
  constructor(
    readonly claim: Claim,
    timeout: number,
    private readonly opener: Opener,
  ) {
    const { id, attempt, fence } = claim;
    const { signal } = this.aborting;
    this.context = {
      ...{ key: id.key, attempt, fence, signal },
      outside: runAsItIs,
      get manager() {
        return managerOf(opener);
      },
    };
    this.timer = setTimeout(() => void this.expire(timedOut(timeout)), timeout).unref();
  }

  run<T>(work: () => Promise<T>): Promise<T> {
    return work();
  }

  onAbort(listener: (reason: IdempotencyError) => void): void {
    if (this.aborted) listener(this.aborted);
    else this.onAborted.push(listener);
  }

  explain(error: unknown): unknown {
    return isConflict(error) ? conflict(error) : error;
  }

  async complete(outcome: Outcome): Promise<CompleteResult> {
    clearTimeout(this.timer);
    try {
      return await this.opener.complete(outcome);
    } catch (error) {
      throw error instanceof StoreError && error.sent ? unresolved(error) : error;
    } finally {
      this.opener.ended();
    }
  }

  async rollBack(): Promise<void> {
    clearTimeout(this.timer);
    await this.opener.release();
    this.opener.ended();
  }

  private async expire(reason: IdempotencyError): Promise<void> {
    this.aborted = reason;
    await this.rollBack();
    this.aborting.abort(reason);
    for (const listener of this.onAborted.splice(0)) listener(reason);
  }
}

function managerOf(opener: Opener): TransactionContext['manager'] {
  const manager = opener.manager();
  if (manager) return manager;
  throw new IdempotencySetupError(
    'the handler asks its claim for `manager`, but the application under test has no DataSource. Import TypeOrmModule in the test, or have the handler use an injected repository that the test replaces.',
  );
}
