import { setImmediate } from 'node:timers/promises';
import { catchError, map, Observable } from 'rxjs';
import { isIdempotencyError } from '../../core/errors';
import type { Outcome } from '../../core/record';
import type { WorkInTransaction } from '../../core/transaction';
import { IdempotencyException } from '../response/problems';
import type { ResponseCapture } from '../response/response-capture';
import { contextBound } from './context-bound';
import type { HandlerWatch } from './handler-watch';

/**
 * The handler, until its transaction has to end before it: then its request fails, and the handler is left alone. What a
 * handler has written that fails is undone before Nest's exception filters are called: they are outside of the
 * transaction, and would wait for the rows that it has locked.
 */
export function inTransaction(
  handling: Observable<unknown>,
  transaction: WorkInTransaction,
  watch: HandlerWatch,
  capture: ResponseCapture,
): Observable<unknown> {
  const undone = async (thrown: unknown): Promise<never> => {
    await setImmediate(); // what interceptors begin at its end is still in the transaction
    if (!watch.running) await transaction.rollBack();
    throw thrown;
  };
  return new Observable((subscriber) => {
    transaction.onAbort((reason) => {
      // Nest can answer what has not begun; what has been answered in part is replaced.
      if (capture.headersSent !== false || subscriber.closed) capture.abort();
      else subscriber.error(new IdempotencyException(reason));
    });
    return handling.pipe(map(contextBound), catchError(undone)).subscribe(subscriber);
  });
}

/** What Nest's exception filters get for what a handler has thrown in its transaction. */
export function explained(transaction: WorkInTransaction, thrown: unknown): unknown {
  const error = transaction.explain(thrown);
  return error !== thrown && isIdempotencyError(error) ? new IdempotencyException(error) : thrown;
}

/** How a protected request was answered. */
export interface Answered {
  /** As it was written; undefined if it does not count. */
  readonly outcome: Outcome | undefined;
  /** Whether it was an error that Nest has answered. */
  readonly threw: boolean;
}

/**
 * What is to be committed with what the handler has written; undefined if all of it is to be rolled back. The transaction
 * ends only when the handler has, also if something else answered before: an answer that counts is held until then.
 */
export function outcomeInTransaction(
  watch: HandlerWatch,
  capture: ResponseCapture,
  transaction: WorkInTransaction,
  { outcome, threw }: Answered,
): Outcome | undefined | Promise<Outcome | undefined> {
  if (capture.aborted) return undefined;
  const counting = watch.began || !threw ? outcome : undefined;
  if (counting && threw) transaction.undo();
  // One that waits for its response to be sent has nothing left to write, and would wait without end.
  if (!watch.running || (counting && capture.isAwaited)) return counting;
  return onceEnded(watch, capture, transaction, counting);
}

async function onceEnded(
  watch: HandlerWatch,
  capture: ResponseCapture,
  transaction: WorkInTransaction,
  counting: Outcome | undefined,
): Promise<Outcome | undefined> {
  // Listeners that hear it has gone, such as a middleware's log, are outside of the transaction.
  if (!counting) watch.context.outside(() => capture.send());
  const ended = await Promise.race([watch.succeeded(), aborted(transaction)]);
  if (counting && !ended) throw new Error('The handler failed after its response had been ended');
  return counting;
}

function aborted(transaction: WorkInTransaction): Promise<false> {
  return new Promise((resolve) => transaction.onAbort(() => resolve(false)));
}
