import { HttpException, type CallHandler, type ExecutionContext } from '@nestjs/common';
import type { HttpAdapterHost } from '@nestjs/core';
import type { OutgoingHttpHeaders } from 'node:http';
import type { Observable, Subscriber } from 'rxjs';
import type { ContextSource } from '../../core/context';
import type { Outcome } from '../../core/record';
import type { WorkInTransaction } from '../../core/transaction';
import { SafeLogger } from '../../observability/safe-logger';
import type { RouteOptions } from '../../options/resolve';
import { tombstoneFor } from '../../outcome/stored-outcome';
import { rawResponse, requestOf, responseOf } from '../platform';
import { IdempotencyException } from '../response/problems';
import { problemOf } from '../response/refusal';
import { ResponseCapture } from '../response/response-capture';
import { isDirect } from './direct-handler';
import { watched } from './handler-interceptors';
import { answersItself } from './handler-parameters';
import { startsOf } from './handler-start';
import { HandlerWatch } from './handler-watch';
import { discard, isStreamedByNest, ownStatus } from './streamed-answer';
import { explained, inTransaction, outcomeInTransaction } from './transactional-handler';

const logger = new SafeLogger('Idempotency');

/**
 * One run of a handler, whose response is held back until its outcome is recorded. It goes on after its client has left:
 * Nest 12 drops the chain of a handler that returns an Observable then. What the handler answers after that is written
 * here in Nest's place, so that the retry gets it.
 */
export class HandlerRun {
  /** Holds the response; undefined until the handler runs. */
  capture: ResponseCapture | undefined;
  /** The headers that were set before it ran. */
  headersBefore: OutgoingHttpHeaders = {};
  private threw = false;
  /** Whether it threw a refusal of ours. */
  private refused = false;

  /** @param subscriber Nest, which listens until the client leaves */
  constructor(
    private readonly context: ExecutionContext,
    private readonly next: CallHandler,
    private readonly route: RouteOptions,
    private readonly subscriber: Subscriber<unknown>,
    private readonly adapterHost: HttpAdapterHost,
  ) {}

  /** @returns what is to be recorded; undefined if the key is to be given back */
  async run(claim: ContextSource, transaction?: WorkInTransaction): Promise<Outcome | undefined> {
    const { context, route } = this;
    const response = responseOf(context);
    const raw = rawResponse(response);
    // Something else has answered meanwhile, such as a timeout: no client would get what the handler answers.
    if (raw.writableEnded) return undefined;
    const watch = new HandlerWatch(requestOf(context), claim);
    this.headersBefore = response.getHeaders();
    const capture = (this.capture = new ResponseCapture(raw, route.policy.maxBodySize, route.keepsHeader));
    this.start(watch, capture, transaction);
    const outcome = await capture.ended;
    // A refusal tells the caller to come back, so it is not an outcome of the request.
    const counting = outcome && !this.refused && this.records(outcome) ? outcome : undefined;
    const { threw } = this;
    if (transaction) return outcomeInTransaction(watch, capture, transaction, { outcome: counting, threw });
    // Nothing was executed where an interceptor or a pipe threw before the handler began, with any answer that a filter made of
    // that. What an interceptor answers itself, as one does that hands its request on, is what has come of it.
    if (counting && (watch.began || !threw)) return counting;
    if (!watch.running && !watch.cutShort) return undefined;
    const lost = await this.waitForAbandonedHandler(watch, capture, outcome);
    return counting && watch.began ? counting : lost;
  }

  private start(
    watch: HandlerWatch,
    capture: ResponseCapture,
    transaction: WorkInTransaction | undefined,
  ): void {
    const { context, next } = this;
    const direct = isDirect(context);
    if (transaction) {
      const handling = direct ? watched(context, next, watch) : next.handle();
      this.listen(inTransaction(handling, transaction, watch, capture), capture, { transaction });
    } else {
      if (direct) watch.begin(startsOf(context.getHandler()));
      this.listen(next.handle(), capture, { watch: direct ? watch : undefined });
    }
  }

  /** @param watch told of the handler's end, where no interceptor stands between */
  private listen(
    handling: Observable<unknown>,
    capture: ResponseCapture,
    { watch, transaction }: { watch?: HandlerWatch | undefined; transaction?: WorkInTransaction },
  ): void {
    const { subscriber } = this;
    let answered = false;
    let answer: unknown;
    /** Nest failed at a value, so its exception filters answer. */
    let failed = false;
    const settled = (): void => {
      // A transaction has its own timeout.
      if (!transaction) capture.abandonOnceClosed(this.route.policy.lease);
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
        const error = this.errorFor(thrown, transaction);
        if (subscriber.closed) capture.abandon(tombstoneFor(statusOf(error), 'unstorable'));
        else subscriber.error(error);
        settled();
      },
      complete: () => {
        watch?.end(true);
        if (!subscriber.closed) subscriber.complete();
        else if (!answered) capture.abandon(undefined);
        else if (!failed && !capture.headersSent && !answersItself(this.context))
          void this.replyInPlace(capture, answer);
        settled();
      },
    });
  }

  /** What Nest's exception filters get for what the handler has thrown. */
  private errorFor(thrown: unknown, transaction: WorkInTransaction | undefined): unknown {
    this.threw = true;
    const error = transaction ? explained(transaction, thrown) : thrown;
    this.refused = error instanceof IdempotencyException;
    return problemOf(error, responseOf(this.context), this.route.documentation);
  }

  /** Writes a value as Nest does, which reads no stream for a client that is gone. There is none for an error any more. */
  private async replyInPlace(capture: ResponseCapture, value: unknown): Promise<void> {
    const response = responseOf(this.context);
    if (isStreamedByNest(value)) {
      discard(value);
      capture.abandon(tombstoneFor(ownStatus(value) ?? rawResponse(response).statusCode, 'unstorable'));
      return;
    }
    try {
      await this.adapterHost.httpAdapter.reply(response, value);
    } catch (error) {
      logger.error('The answer of a handler whose client has left could not be written', error);
      capture.abandon(tombstoneFor(500, 'unstorable'));
    }
  }

  /**
   * The response was ended while the handler still runs, for example by a time-out. Its key is not free as long as it
   * does; and unless it was the handler that ended it, its answer is lost, but it has been executed.
   */
  private async waitForAbandonedHandler(
    watch: HandlerWatch,
    capture: ResponseCapture,
    outcome: Outcome | undefined,
  ): Promise<Outcome | undefined> {
    capture.send();
    const unheard = (await watch.succeeded()) && (watch.abandoned || !answersItself(this.context));
    return unheard && outcome ? tombstoneFor(outcome.status, 'unstorable') : undefined;
  }

  /** An option that fails must not let the handler run again. */
  private records(outcome: Outcome): boolean {
    try {
      return this.route.records(outcome.status);
    } catch (error) {
      logger.error('The `record` option failed, so the response is recorded', error);
      return true;
    }
  }
}

function statusOf(error: unknown): number {
  return error instanceof HttpException ? error.getStatus() : 500;
}
