import type { PoolClient } from 'pg';
import type { EntityManager, QueryRunner } from 'typeorm';
import { isTransactionEndedError } from '../core/errors';
import { leftRefused } from './failures';
import { currentFrame, enter, hasLeft, within, type Frame, type Joinable } from './frames';
import { joinedClient, type Place, type SharedConnection } from './joined-client';
import { Level, type Turn } from './level';

/** A savepoint that a runner has opened. */
interface Opened {
  readonly level: Level;
  readonly turn: Turn;
}

/** A query runner of TypeORM that uses the connection of a transaction. TypeORM does all that is not done here. */
export class JoinedRunner {
  /** The outermost first. */
  private readonly opened: Opened[] = [];
  private client: Promise<PoolClient> | undefined;

  /** @param runner one that is new @param home the level at which it was asked for */
  constructor(
    readonly runner: QueryRunner,
    private readonly shared: Joinable & SharedConnection,
    private readonly home: Level,
  ) {
    const release = runner.release.bind(runner);
    const query = runner.query.bind(runner) as (...args: unknown[]) => Promise<unknown>;
    Object.assign(runner, {
      isTransactionActive: true, // so that a save() opens no savepoint
      query: (...args: unknown[]) => query(...args).catch(unwrapped),
      connect: () => (this.client ??= this.connect()),
      startTransaction: () => this.unlessLeft(() => this.start()),
      commitTransaction: () => this.unlessLeft(() => this.commit()),
      rollbackTransaction: () => this.unlessLeft(() => this.rollBack()),
      release: () => this.close(() => this.rollBack()).finally(release),
      [Symbol.asyncDispose]: () => this.close(() => this.commit()).finally(release),
    });
    const place = (): Pick<Frame, 'transaction' | 'level'> | undefined =>
      hasLeft(shared) ? undefined : { transaction: shared, level: this.place().level };
    runner.manager.transaction = containedTransaction(runner.manager, place);
  }

  private async connect(): Promise<PoolClient> {
    return joinedClient(await this.shared.client(), this.shared, () => {
      if (hasLeft(this.shared)) throw leftRefused();
      return this.place();
    });
  }

  /** TypeORM rolls back what it could not start, which would be what is open on this runner. */
  private unlessLeft(work: () => Promise<void>): Promise<void> {
    return hasLeft(this.shared) ? Promise.reject(leftRefused()) : work();
  }

  private frame(): Frame | undefined {
    return currentFrame(({ transaction }) => transaction === this.shared);
  }

  /**
   * Where the calling code is. If its context was lost, or if a helper started the transaction for it, it is where this
   * runner is.
   */
  private place(): Place {
    const frame = this.frame();
    if (frame?.command) {
      const { level, command } = frame;
      return { level, isCommand: true, succeeded: (text) => text === command.text && command.done() };
    }
    const last = this.opened.at(-1)?.level;
    if (last && (!frame || (!last.strict && !frame.level.isWithin(last)))) return { level: last };
    return { level: frame?.level ?? this.home };
  }

  /** Not async: the caller is within the savepoint from here on. The isolation level is that of the transaction. */
  private start(): Promise<void> {
    const { level: above } = this.place();
    const frame = this.frame();
    const level = new Level(above, frame?.callsBack);
    if (frame) enter(this.shared, level);
    return this.open(level, above);
  }

  private async open(level: Level, above: Level): Promise<void> {
    let turn: Turn | undefined;
    try {
      turn = await this.shared.hold(above);
      level.openIn(turn.level);
      await this.command('Start', level, [`SAVEPOINT ${level.savepoint}`], () => (level.begun = true));
      level.opened();
      this.opened.push({ level, turn });
    } catch (error) {
      level.close('rolled back');
      turn?.done();
      throw error;
    }
  }

  private async commit(): Promise<void> {
    const ending = this.ending();
    const { level } = ending;
    await this.command('Commit', level, [`RELEASE SAVEPOINT ${level.savepoint}`], () =>
      level.close('committed'),
    );
    this.ended(ending);
  }

  private async rollBack(): Promise<void> {
    const ending = this.ending();
    const { level } = ending;
    const { savepoint } = level;
    // Savepoints that pile up slow the server down.
    const texts = [`ROLLBACK TO SAVEPOINT ${savepoint}`, `RELEASE SAVEPOINT ${savepoint}`];
    try {
      await this.command('Rollback', level, texts, () => level.close('rolled back'));
    } finally {
      level.close('rolled back');
      this.ended(ending);
    }
  }

  /**
   * What TypeORM does, at a level that it leaves to us.
   * @param done called as soon as the first of the texts is executed
   */
  private command(
    what: 'Start' | 'Commit' | 'Rollback',
    level: Level,
    [text = '', ...more]: readonly string[],
    done: () => void,
  ): Promise<void> {
    return within({ transaction: this.shared, level }, { command: { text, done } }, async () => {
      const { broadcaster } = this.runner;
      await broadcaster.broadcast(`BeforeTransaction${what}`);
      for (const each of [text, ...more]) await this.runner.query(each);
      await broadcaster.broadcast(`AfterTransaction${what}`);
    });
  }

  /** The transaction that the caller is in, if this runner has opened it. Otherwise the last one. */
  private ending(): Opened {
    const level = this.frame()?.level;
    const ending = this.opened.find((each) => each.level === level) ?? this.opened.at(-1);
    if (ending) return ending;
    const { TransactionNotStartedError } = require('typeorm') as typeof import('typeorm');
    throw new TransactionNotStartedError();
  }

  private ended(ending: Opened): void {
    this.opened.splice(this.opened.indexOf(ending), 1);
    ending.turn.done();
  }

  private async close(each: () => Promise<void>): Promise<void> {
    while (this.opened.length > 0) await each();
  }
}

/** Our refusal as it is, where TypeORM has made a failed query of it. */
function unwrapped(error: unknown): never {
  const cause = (error as { driverError?: unknown } | undefined)?.driverError;
  throw isTransactionEndedError(cause) ? cause : error;
}

/**
 * `EntityManager.transaction()`, after which the caller is where it was. TypeORM calls back within the transaction that it
 * has started.
 */
export function containedTransaction(
  manager: EntityManager,
  frame: () => Pick<Frame, 'transaction' | 'level'> | undefined,
): EntityManager['transaction'] {
  const transaction = manager.transaction.bind(manager) as (...args: unknown[]) => Promise<unknown>;
  return (...args: unknown[]) => {
    const around = frame();
    return around ? within(around, { callsBack: true }, () => transaction(...args)) : transaction(...args);
  };
}
