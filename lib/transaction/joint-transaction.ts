import type { PoolClient } from 'pg';
import type { DataSource, EntityManager, QueryRunner } from 'typeorm';
import { TransactionEndedError } from '../core/errors';
import { within, type Joinable } from './frames';
import type { Occupied, Place, SharedConnection } from './joined-client';
import { JoinedRunner } from './joined-runner';
import { Level, type Turn } from './level';

/** What TypeORM tells its subscribers of a transaction. */
export type TransactionEvent =
  | 'BeforeTransactionStart'
  | 'AfterTransactionStart'
  | 'BeforeTransactionCommit'
  | 'AfterTransactionCommit'
  | 'BeforeTransactionRollback'
  | 'AfterTransactionRollback';

/** A transaction that everything joins which asks its DataSource for a connection within it. */
export interface AmbientTransaction {
  readonly manager: EntityManager;
  /** Each use is refused from now on. */
  end(): void;
  /** After `end()`: the statement under way is done; undefined if there is none, as mostly. */
  idle(): Promise<void> | undefined;
  /**
   * After `end()`: the statement under way is done, and what a transaction within this one has left unfinished is undone.
   * @returns whether something was undone; undefined if there is neither, as mostly
   * @throws if it cannot be undone (as a rejection)
   */
  settled(): Promise<boolean> | undefined;
  readonly hasSubscribers: boolean;
  /**
   * Tells TypeORM's subscribers. What they do before the end is in the transaction, and what they do after it is not.
   * @throws what they throw
   */
  notify(event: TransactionEvent): Promise<void>;
}

export class JointTransaction implements AmbientTransaction, Joinable, SharedConnection {
  readonly root = new Level();
  private ended = false;
  private ownManager: EntityManager | undefined;
  private readonly underWay = new Set<Partial<Occupied>>();
  private onIdle: (() => void) | undefined;
  private becomingIdle: Promise<void> | undefined;

  /** @param runner on which the transaction is open @param another makes one that joins nothing */
  constructor(
    readonly dataSource: DataSource,
    private readonly runner: QueryRunner,
    private readonly another: (mode?: 'master' | 'slave') => QueryRunner,
  ) {}

  get manager(): EntityManager {
    return (this.ownManager ??= this.join(this.root).manager);
  }

  get isOpen(): boolean {
    return !this.ended;
  }

  join(home: Level, mode?: 'master' | 'slave'): QueryRunner {
    return new JoinedRunner(this.another(mode), this, home).runner;
  }

  client(): Promise<PoolClient> {
    return this.runner.connect() as Promise<PoolClient>;
  }

  async turn({ level, isCommand }: Place, occupied: Partial<Occupied> = {}): Promise<Turn> {
    const turn = await this.hold(level, () => occupied.needed?.(), isCommand);
    try {
      this.refuseAfterEnd(); // it may have ended since the turn was given
    } catch (error) {
      turn.done();
      throw error;
    }
    this.underWay.add(occupied);
    const done = (): void => {
      this.underWay.delete(occupied);
      turn.done();
      if (this.underWay.size === 0) this.onIdle?.();
    };
    return { level: turn.level, done };
  }

  async hold(level: Level, needed?: () => void, isCommand?: boolean): Promise<Turn> {
    this.refuseAfterEnd();
    const turn = await level.take(needed, isCommand);
    if (typeof turn === 'string') throw new TransactionEndedError(turn); // made here, it names the caller's line
    return turn;
  }

  private refuseAfterEnd(): void {
    if (this.ended) throw new TransactionEndedError();
  }

  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.root.refuseWaiting();
    for (const occupied of this.underWay) occupied.stop?.(new TransactionEndedError());
  }

  settled(): Promise<boolean> | undefined {
    return this.underWay.size > 0 || this.root.outermostSavepoint ? this.settle() : undefined;
  }

  idle(): Promise<void> | undefined {
    if (this.underWay.size === 0) return undefined;
    return (this.becomingIdle ??= new Promise((resolve) => (this.onIdle = resolve)));
  }

  private async settle(): Promise<boolean> {
    await this.idle();
    const savepoint = this.root.outermostSavepoint;
    if (!savepoint) return false;
    await (await this.client()).query(`ROLLBACK TO SAVEPOINT ${savepoint.savepoint}`);
    return true;
  }

  get hasSubscribers(): boolean {
    return this.dataSource.subscribers.length > 0;
  }

  async notify(event: TransactionEvent): Promise<void> {
    if (!this.hasSubscribers) return;
    if (!this.ended) {
      const { queryRunner } = this.manager;
      return within({ transaction: this, level: this.root }, {}, () =>
        queryRunner?.broadcaster.broadcast(event),
      );
    }
    const runner = this.another();
    try {
      await runner.broadcaster.broadcast(event);
    } finally {
      await runner.release();
    }
  }
}
