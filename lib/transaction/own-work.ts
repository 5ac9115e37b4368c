import { AsyncLocalStorage } from 'node:async_hooks';
import type { QueryRunner } from 'typeorm';
import { aroundRefused } from './failures';

/** Of which module in this process, and of which key there. */
export interface WorkKey {
  readonly module: object;
  readonly hash: string;
}

/** Work with its own key: its effects have to stand or fall with its own record. */
interface OwnWork extends WorkKey {
  /** That which it is part of. */
  readonly outer: OwnWork | undefined;
  isOver: boolean;
}

const works = new AsyncLocalStorage<OwnWork>();

export async function ownWork<T>({ module, hash }: WorkKey, work: () => T | Promise<T>): Promise<T> {
  const own: OwnWork = { module, hash, outer: works.getStore(), isOver: false };
  try {
    return await works.run(own, work);
  } finally {
    own.isOver = true;
  }
}

/** Whether the caller is in work of this key that is not over, and would wait for itself. */
export function isInWorkOf({ module, hash }: WorkKey): boolean {
  let work = works.getStore();
  while (work && (work.isOver || work.hash !== hash || work.module !== module)) work = work.outer;
  return work !== undefined;
}

/** Whether the caller is in work that is part of the other, or of none if that is undefined. */
function isFurtherIn(than: OwnWork | undefined): boolean {
  const here = works.getStore();
  let work = here;
  while (work && work !== than) work = work.outer;
  return work === than && here !== than;
}

/**
 * Has a query runner refuse what work with its own key asks of a transaction that was there before it. That transaction
 * can be rolled back once the outcome of the work is recorded, and no retry would do it again.
 */
export function guarded(runner: QueryRunner): QueryRunner {
  const start = runner.startTransaction.bind(runner);
  let isGuarded = false;
  let startedIn: OwnWork | undefined;
  runner.startTransaction = (...args) => {
    if (!runner.isTransactionActive) startedIn = works.getStore();
    if (!isGuarded) guard(runner, () => startedIn);
    isGuarded = true;
    return isRefused(runner, startedIn) ? Promise.reject(aroundRefused()) : start(...args);
  };
  return runner;
}

function isRefused(runner: QueryRunner, startedIn: OwnWork | undefined): boolean {
  return runner.isTransactionActive && isFurtherIn(startedIn);
}

/** TypeORM asks for the connection before each statement. It rolls back what it could not start, which is not its own here. */
function guard(runner: QueryRunner, startedIn: () => OwnWork | undefined): void {
  for (const name of ['connect', 'commitTransaction', 'rollbackTransaction'] as const) {
    const method = runner[name].bind(runner) as () => Promise<never>;
    runner[name] = () => (isRefused(runner, startedIn()) ? Promise.reject(aroundRefused()) : method());
  }
}
