import { AsyncLocalStorage } from 'node:async_hooks';
import type { DataSource, QueryRunner } from 'typeorm';
import type { Level } from './level';

/** A transaction, as the code within it finds it. */
export interface Joinable {
  readonly dataSource: DataSource;
  readonly isOpen: boolean;
  /** A query runner that uses the transaction's connection. */
  join(home: Level, mode: 'master' | 'slave' | undefined): QueryRunner;
}

/** Where code is: in which transaction, and at which level of it. */
export interface Frame {
  readonly transaction: Joinable;
  readonly level: Level;
  /** Where this transaction was begun, if that was in another one, or outside of one. */
  readonly outer: Place | undefined;
  /** Set while TypeORM opens or closes the level: the statement that does it, and what to do when it has. */
  readonly command?: { readonly text: string; done(): void };
  /** Whether TypeORM calls back within the transaction that it is about to start. */
  readonly callsBack?: boolean;
}

/** Where code is that has left its transactions. It may stay there for long, and keeps none of them in memory. */
class Outside {
  private readonly left: readonly WeakRef<Joinable>[];

  constructor(place: Place) {
    this.left = [...around(place)].map((transaction) => new WeakRef(transaction));
  }

  *transactions(): Iterable<Joinable> {
    for (const each of this.left) {
      const transaction = each.deref();
      if (transaction) yield transaction;
    }
  }
}

type Place = Frame | Outside;

const frames = new AsyncLocalStorage<Place | undefined>();

/** All transactions in which a place is, also those that it has left. */
function* around(place: Place | undefined): Iterable<Joinable> {
  let at = place;
  for (; at && !(at instanceof Outside); at = at.outer) yield at.transaction;
  if (at) yield* at.transactions();
}

/** Whether one that fits has called what runs here, and may wait for it. */
export function isCalledIn(fits: (transaction: Joinable) => boolean): boolean {
  for (const transaction of around(frames.getStore())) if (fits(transaction)) return true;
  return false;
}

/** Those that fit and that the caller has not left. */
export function transactionsOf(fits: (transaction: Joinable) => boolean): readonly Joinable[] {
  const found: Joinable[] = [];
  for (let at = frames.getStore(); at && !(at instanceof Outside); at = at.outer)
    if (fits(at.transaction)) found.push(at.transaction);
  return found;
}

/** Runs the work outside of all transactions: what it does there is committed at once, and can happen more than once. */
export function outside<T>(work: () => T): T {
  const place = frames.getStore();
  return !place || place instanceof Outside ? work() : frames.run(new Outside(place), work);
}

/**
 * Whether the caller has left a transaction that it still has a manager of: it is outside, or in a transaction of another
 * key. Code whose context was lost has not.
 */
export function hasLeft(transaction: Joinable): boolean {
  let place = frames.getStore();
  let isApart = false;
  for (; place && !(place instanceof Outside); place = place.outer) {
    if (place.transaction === transaction) return isApart;
    isApart ||= place.transaction.dataSource === transaction.dataSource;
  }
  return [...around(place)].includes(transaction);
}

/** The innermost frame that fits. */
export function currentFrame(fits: (frame: Frame) => boolean): Frame | undefined {
  let frame = frames.getStore();
  while (frame && !(frame instanceof Outside) && !fits(frame)) frame = frame.outer;
  if (!frame || frame instanceof Outside) return undefined;
  if (frame.command || frame.level.start === frame.level) return frame;
  // A sibling of the code that opens this level, started in the same tick: what follows there is at the level above.
  return enter(frame.transaction, frame.level.start);
}

/** Runs work at a level. */
export function within<T>(
  { transaction, level }: Pick<Frame, 'transaction' | 'level'>,
  more: Pick<Frame, 'command' | 'callsBack'>,
  work: () => T,
): T {
  return frames.run({ transaction, level, outer: beyond(transaction), ...more }, work);
}

/** What the caller does from now on is at this level. */
export function enter(transaction: Joinable, level: Level): Frame {
  const frame = { transaction, level, outer: beyond(transaction) };
  frames.enterWith(frame);
  return frame;
}

/** Levels know those above them, so one frame for each transaction is enough. */
function beyond(transaction: Joinable): Place | undefined {
  const place = frames.getStore();
  return place && !(place instanceof Outside) && place.transaction === transaction ? place.outer : place;
}
