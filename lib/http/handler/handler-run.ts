import { HttpException } from '@nestjs/common';
import type { Observable, Subscriber } from 'rxjs';
import { tombstoneFor } from '../../outcome/stored-outcome';
import { SafeLogger } from '../../observability/safe-logger';
import type { ResponseCapture } from '../response/response-capture';
import type { HandlerWatch } from './handler-watch';

const logger = new SafeLogger('Idempotency');

export interface HandlerAnswers {
  /** Writes a value as Nest does. */
  readonly reply: (value: unknown) => unknown;
  /** What Nest's exception filters get for what the handler has thrown. */
  readonly errorFor: (thrown: unknown) => unknown;
}

/**
 * Runs a handler for Nest, and on after its client has left: Nest 12 drops the chain of a handler that returns an
 * Observable then. What the handler answers after that is written here in Nest's place, so that the retry gets it.
 * @param patience milliseconds for which a response that its client has left may take to end. @default any time
 * @param watch told of the handler's end, where no interceptor stands between
 */
export function runHandler(
  handling: Observable<unknown>,
  subscriber: Subscriber<unknown>,
  capture: ResponseCapture,
  patience: number | undefined,
  { reply, errorFor }: HandlerAnswers,
  watch?: HandlerWatch,
): void {
  let answered = false;
  let answer: unknown;
  /** Nest failed at a value, so its exception filters answer. */
  let failed = false;
  const settled = (): void => {
    if (patience !== undefined) capture.abandonOnceClosed(patience);
  };
  handling.subscribe({
    next: (value) => {
      answered = true;
      answer = value;
      const open = !subscriber.closed;
      subscriber.next(value);
      failed ||= open && subscriber.closed;
    },
    error: (thrown: unknown) => {
      watch?.end(false);
      const error = errorFor(thrown);
      if (subscriber.closed) {
        capture.abandon(tombstoneFor(statusOf(error), 'unstorable'));
      } else subscriber.error(error);
      settled();
    },
    complete: () => {
      watch?.end(true);
      if (!subscriber.closed) subscriber.complete();
      else if (!answered) capture.abandon(undefined);
      else if (!failed && !capture.headersSent) void replyInPlace(capture, () => reply(answer));
      settled();
    },
  });
}

/** There is no client for an error any more. */
async function replyInPlace(capture: ResponseCapture, reply: () => unknown): Promise<void> {
  try {
    await reply();
  } catch (error) {
    logger.error('The answer of a handler whose client has left could not be written', error);
    capture.abandon(tombstoneFor(500, 'unstorable'));
  }
}

function statusOf(error: unknown): number {
  return error instanceof HttpException ? error.getStatus() : 500;
}
