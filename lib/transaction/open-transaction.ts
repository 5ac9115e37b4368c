import { performance } from 'node:perf_hooks';
import { deadlines, type Deadline } from '../core/deadlines';
import type { IdempotencyError } from '../core/errors';
import type { Claim, Outcome } from '../core/record';
import type { CompleteResult } from '../core/store';
import type { Transaction } from '../core/transaction';
import type { Completion } from '../store/pending-writes';
import { News } from '../observability/news';
import { SafeLogger } from '../observability/safe-logger';
import { outside, type Ambient, type AmbientTransaction, type TransactionEvent } from './ambient';
import type { Begun } from './beginning';
import { bounded } from './bounded';
import type { TransactionContext } from './context';
import { explained, timedOut } from './failures';
import type { Session } from './session';

/** What a commit has come to, and whether the handler has written anything, if that is known. */
export type CommitResult = CompleteResult & { readonly wrote?: boolean };

/** What an open transaction needs of those that opened it. */
export interface Opener {
  readonly ambient: Ambient;
  /** Milliseconds for which TypeORM's subscribers are waited for where the handler's time does not bound them. */
  readonly patience: number;
  /** Commits; the transaction is over then, committed or not. */
  commit(transaction: OpenTransaction, outcome: Outcome): Promise<CommitResult>;
  /** The handler has written nothing in the transaction. */
  wroteNothing(): void;
  /** The handler has left a transaction within it unfinished, which was rolled back. */
  leftUnfinished(): void;
  /**
   * Told what stands after that.
   * @param askedAt monotonic time (ms) at which the commit was sent
   */
  committed(completion: Completion, result: CompleteResult, askedAt: number): void;
  /** Its connection is given back. */
  ended(): void;
}

const logger = new SafeLogger('Idempotency');
const news = new News();

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
    const { ambient } = this.opener;
    deadlines.add(this);
    return ambient.enter(this.session.queryRunner, (joined) => {
      this.joined = joined;
      return joined.hasSubscribers ? this.runAfterStart(joined, work) : work();
    });
  }

  /** A subscriber may set the transaction up, for row-level security for example. */
  private async runAfterStart<T>(joined: AmbientTransaction, work: () => Promise<T>): Promise<T> {
    await this.inTime(joined.notify('BeforeTransactionStart'));
    await this.inTime(joined.notify('AfterTransactionStart'));
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
    return explained(error);
  }

  async complete(outcome: Outcome): Promise<CompleteResult> {
    const { ambient, opener, claim } = this;
    try {
      if (ambient.hasSubscribers) await this.inTime(ambient.notify('BeforeTransactionCommit'));
      ambient.end();
      const settled = ambient.settled();
      if (settled && (await settled)) opener.leftUnfinished();
    } catch (error) {
      throw this.aborted ?? error;
    }
    if (this.aborted) throw this.aborted;
    deadlines.delete(this);
    const askedAt = performance.now();
    const { wrote, ...result } = await opener.commit(this, outcome);
    if (wrote === false) opener.wroteNothing();
    opener.committed({ claim, outcome }, result, askedAt);
    if (result.recorded && ambient.hasSubscribers) await this.tell('AfterTransactionCommit');
    return result;
  }

  rollBack(): Promise<void> {
    return (this.rollingBack ??= this.over ? Promise.resolve() : this.undo());
  }

  /** Gives the connection back, or up. */
  close(): void {
    if (this.over) return;
    this.over = true;
    deadlines.delete(this);
    this.joined?.end();
    this.session.release();
    this.opener.ended();
  }

  private async undo(): Promise<void> {
    const { joined, session } = this;
    deadlines.delete(this);
    if (joined?.hasSubscribers) await this.tell('BeforeTransactionRollback');
    joined?.end();
    const idle = joined?.idle(); // pg sends nothing while it waits for an answer
    if (idle) await bounded(idle, 'the statement', session.timeout).catch(() => session.destroy());
    if (!session.isBroken) await session.send([['ROLLBACK']]).catch(() => session.destroy());
    this.close();
    if (joined?.hasSubscribers) await this.tell('AfterTransactionRollback');
  }

  /** What a subscriber does in the transaction, within the handler's time. */
  private async inTime(work: Promise<void>): Promise<void> {
    const aborted = new Promise<never>((_, reject) => this.onAbort(reject));
    await Promise.race([work, aborted]);
  }

  /** What comes of it changes nothing, so it is not waited for without end. */
  private async tell(event: TransactionEvent): Promise<void> {
    const { patience } = this.opener;
    try {
      await bounded(this.ambient.notify(event), 'the subscriber', patience);
    } catch (error) {
      if (news.isNew(event)) logger.error(`A subscriber of TypeORM has failed (${event}).`, stackOf(error));
    }
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

function stackOf(error: unknown): string | undefined {
  return error instanceof Error ? error.stack : String(error);
}
