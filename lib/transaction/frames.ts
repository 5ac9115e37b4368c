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
  /** That of another transaction around this one. */
  readonly outer: Frame | undefined;
  /** Set while TypeORM opens or closes the level: the statement that does it, and what to do when it has. */
  readonly command?: { readonly text: string; done(): void };
  /** Whether TypeORM calls back within the transaction that it is about to start. */
  readonly callsBack?: boolean;
}

/** Where code is that has left its transactions. */
class Outside {
  constructor(readonly left: WeakSet<Joinable>) {}
}

const frames = new AsyncLocalStorage<Frame | Outside | undefined>();

function current(): Frame | undefined {
  const place = frames.getStore();
  return place instanceof Outside ? undefined : place;
}

/** Runs the work outside of all transactions: what it does there is committed at once, and can happen more than once. */
export function outside<T>(work: () => T): T {
  const place = frames.getStore();
  if (!place || place instanceof Outside) return work();
  const left = new WeakSet<Joinable>();
  for (let frame: Frame | undefined = place; frame; frame = frame.outer) left.add(frame.transaction);
  return frames.run(new Outside(left), work);
}

/**
 * Whether the caller has left a transaction that it still has a manager of: it is outside, or in a transaction of another
 * key. Code whose context was lost has not.
 */
export function hasLeft(transaction: Joinable): boolean {
  const place = frames.getStore();
  if (place instanceof Outside) return place.left.has(transaction);
  if (!place || place.transaction === transaction) return false;
  let isApart = false;
  for (let frame: Frame | undefined = place; frame; frame = frame.outer) {
    if (frame.transaction === transaction) return isApart;
    isApart ||= frame.transaction.dataSource === transaction.dataSource;
  }
  return false;
}

/** The innermost frame that fits. */
export function currentFrame(fits: (frame: Frame) => boolean): Frame | undefined {
  let frame = current();
  while (frame && !fits(frame)) frame = frame.outer;
  if (!frame || frame.command || frame.level.start === frame.level) return frame;
  // A sibling of the code that opens this level, started in the same tick: what follows there is at the level above.
  return enter(frame.transaction, frame.level.start);
}

/** Runs work at a level. */
export function within<T>(
  { transaction, level }: Pick<Frame, 'transaction' | 'level'>,
  more: Pick<Frame, 'command' | 'callsBack'>,
  work: () => T,
): T {
  return frames.run({ transaction, level, outer: around(transaction), ...more }, work);
}

/** What the caller does from now on is at this level. */
export function enter(transaction: Joinable, level: Level): Frame {
  const frame = { transaction, level, outer: around(transaction) };
  frames.enterWith(frame);
  return frame;
}

/** Levels know those above them, so one frame for each transaction is enough. */
function around(transaction: Joinable): Frame | undefined {
  const frame = current();
  return frame?.transaction === transaction ? frame.outer : frame;
}
