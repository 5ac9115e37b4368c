import type { Deadline, Deadlines } from '../core/deadlines';
import type { IdempotencyError } from '../core/errors';
import type { Claim, Outcome } from '../core/record';
import type { CompleteResult } from '../core/store';
import type { Transaction } from '../core/transaction';
import { outside, type Ambient, type AmbientTransaction } from './ambient';
import type { Begun } from './beginning';
import type { TransactionContext } from './context';
import { conflict, isConflict, timedOut } from './failures';
import type { Session } from './session';

/** What an open transaction needs of those that opened it. */
export interface Opener {
  readonly ambient: Ambient;
  readonly deadlines: Deadlines<Deadline>;
  /** Commits; the transaction is over then, whatever has become of it. */
  commit(transaction: OpenTransaction, outcome: Outcome): Promise<CompleteResult>;
  /** Its connection is given back. */
  ended(): void;
}

/** A transaction that is open on a connection of the application's pool. */
export class OpenTransaction implements Transaction, Deadline {
  readonly claim: Claim;
  readonly session: Session;
  readonly dueAt: number;
  aborted: IdempotencyError | undefined;
  readonly context: TransactionContext;
  private joined: AmbientTransaction | undefined;
  private aborting: AbortController | undefined;
  private onAborted: ((reason: IdempotencyError) => void)[] = [];
  private rollingBack: Promise<void> | undefined;
  private over = false;

  /** @param timeout milliseconds for the handler @param startedAt monotonic time (ms) */
  constructor(
    readonly begun: Begun,
    private readonly timeout: number,
    startedAt: number,
    private readonly opener: Opener,
  ) {
    this.claim = begun.claim;
    this.session = begun.session;
    this.dueAt = startedAt + timeout;
    const { id, attempt, fence } = begun.claim;
    const signal = (): AbortSignal => this.signal;
    const manager = (): AmbientTransaction['manager'] => this.ambient.manager;
    this.context = {
      key: id.key,
      attempt,
      fence,
      outside,
      get signal() {
        return signal();
      },
      get manager() {
        return manager();
      },
    };
  }

  run<T>(work: () => Promise<T>): Promise<T> {
    const { ambient, deadlines } = this.opener;
    deadlines.add(this);
    return ambient.enter(this.session.queryRunner, (joined) => {
      this.joined = joined;
      return joined.hasSubscribers ? this.runAfterStart(joined, work) : work();
    });
  }

  /** A subscriber may set the transaction up, for row-level security for example. */
  private async runAfterStart<T>(joined: AmbientTransaction, work: () => Promise<T>): Promise<T> {
    await joined.notify('BeforeTransactionStart');
    await joined.notify('AfterTransactionStart');
    if (this.aborted) throw this.aborted;
    return work();
  }

  onAbort(listener: (reason: IdempotencyError) => void): void {
    if (this.aborted) listener(this.aborted);
    else this.onAborted.push(listener);
  }

  /** The handler has taken too long. */
  expire(): void {
    this.aborted = timedOut(this.timeout);
    void this.rollBack();
    this.aborting?.abort(this.aborted);
    for (const listener of this.onAborted.splice(0)) listener(this.aborted);
  }

  explain(error: unknown): unknown {
    return isConflict(error) ? conflict(error) : error;
  }

  async complete(outcome: Outcome): Promise<CompleteResult> {
    const { ambient } = this;
    try {
      await ambient.notify('BeforeTransactionCommit');
      ambient.end();
      await ambient.settled();
    } catch (error) {
      throw this.aborted ?? error;
    }
    if (this.aborted) throw this.aborted;
    this.opener.deadlines.delete(this);
    const result = await this.opener.commit(this, outcome);
    if (result.recorded) await ambient.notify('AfterTransactionCommit');
    return result;
  }

  rollBack(): Promise<void> {
    return (this.rollingBack ??= this.over ? Promise.resolve() : this.undo());
  }

  /** Gives the connection back, or up. */
  close(): void {
    if (this.over) return;
    this.over = true;
    this.opener.deadlines.delete(this);
    this.joined?.end();
    this.session.release();
    this.opener.ended();
  }

  private async undo(): Promise<void> {
    const { joined, session } = this;
    this.opener.deadlines.delete(this);
    await joined?.notify('BeforeTransactionRollback').catch(() => undefined);
    joined?.end();
    if (!session.isBroken) await session.send([['ROLLBACK']]).catch(() => session.destroy());
    this.close();
    await joined?.notify('AfterTransactionRollback').catch(() => undefined);
  }

  private get ambient(): AmbientTransaction {
    if (!this.joined) throw new TypeError('The transaction is used before it runs.');
    return this.joined;
  }

  private get signal(): AbortSignal {
    this.aborting ??= new AbortController();
    if (this.aborted && !this.aborting.signal.aborted) this.aborting.abort(this.aborted);
    return this.aborting.signal;
  }
}
