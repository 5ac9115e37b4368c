/** Why a turn is not given: what has ended. */
export type Ended = 'request' | 'nested';

/** A turn on the transaction's connection that a statement holds. */
export interface Turn {
  /** Where it was given: the nearest level that was still open. */
  readonly level: Level;
  done(): void;
}

interface Waiting {
  resolve(turn: Turn | Ended): void;
  /** Called while it holds its turn, once another waits. */
  needed?(): void;
}

/**
 * The transaction, or an open savepoint in it. What runs at one level takes turns: a statement, a stream, or a savepoint,
 * which is a level below. PostgreSQL has one stack of savepoints per connection, so siblings must not overlap.
 */
export class Level {
  /** The savepoint that holds the turn here. */
  private child: Level | undefined;
  private state: 'opening' | 'open' | 'committed' | 'rolled back';
  private holder: Waiting | undefined;
  private readonly waiting: Waiting[] = [];
  /** Whether its savepoint is there on the server. */
  begun = false;

  /**
   * @param above where it will be; undefined for the transaction
   * @param strict whether what still runs here after a rollback is refused; otherwise it goes on at the level above
   */
  constructor(
    private above?: Level,
    readonly strict = false,
  ) {
    this.state = above ? 'opening' : 'open';
  }

  /** As TypeORM counts it. */
  get depth(): number {
    return this.above ? this.above.depth + 1 : 1;
  }

  /** The savepoint's name, as TypeORM gives it. */
  get savepoint(): string {
    return `typeorm_${this.depth - 1}`;
  }

  /** The level that code is at which has come here before the savepoint is there. */
  get start(): Level {
    return this.state === 'opening' && this.above ? this.above : this;
  }

  isWithin(other: Level): boolean {
    return this === other || (this.above?.isWithin(other) ?? false);
  }

  /**
   * @param needed called while the turn is held, once another waits for it
   * @param closes whether it belongs to the closing of this level, and so is here also once that is done
   */
  take(needed?: () => void, closes = false): Promise<Turn | Ended> {
    return new Promise((resolve) => {
      if (closes) this.await({ resolve, needed });
      else this.request({ resolve, needed });
    });
  }

  /** @param above where the turn was given */
  openIn(above: Level): void {
    this.above = above;
    above.child = this;
  }

  opened(): void {
    this.state = 'open';
  }

  /**
   * What waits here, or comes later, goes on at the level above, or is refused. To be called before the turn after that of
   * the statement which closes it: a savepoint that is opened here then would overlap with others above.
   */
  close(state: 'committed' | 'rolled back'): void {
    if (this.isClosed) return;
    this.state = state;
    if (this.above?.child === this) this.above.child = undefined;
    for (const each of this.waiting.splice(0)) this.request(each);
  }

  /** The outermost savepoint that is there on the server. */
  get outermostSavepoint(): Level | undefined {
    return this.child?.begun ? this.child : undefined;
  }

  /** Refuses all that wait here and below. */
  refuseWaiting(): void {
    for (const each of this.waiting.splice(0)) each.resolve('request');
    this.child?.refuseWaiting();
  }

  private get isClosed(): boolean {
    return this.state === 'committed' || this.state === 'rolled back';
  }

  private request(turn: Waiting): void {
    if (!this.above || !this.isClosed) this.await(turn);
    else if (this.state === 'rolled back' && this.strict) turn.resolve('nested');
    else this.above.request(turn);
  }

  private await(turn: Waiting): void {
    if (this.holder) {
      this.waiting.push(turn);
      this.holder.needed?.();
    } else {
      this.give(turn);
    }
  }

  private give(turn: Waiting): void {
    this.holder = turn;
    turn.resolve({ level: this, done: () => this.next(turn) });
    if (this.waiting.length > 0) turn.needed?.();
  }

  private next(after: Waiting): void {
    if (this.holder !== after) return;
    this.holder = undefined;
    const turn = this.waiting.shift();
    if (turn) this.give(turn);
  }
}
