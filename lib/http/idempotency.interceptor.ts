import { Injectable, type CallHandler, type ExecutionContext, type NestInterceptor } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import type { OutgoingHttpHeaders } from 'node:http';
import { catchError, Observable, type Subscriber } from 'rxjs';
import { Digest } from '../core/digest';
import { ClientLeftError, IdempotencyError, isIdempotencyError } from '../core/errors';
import type { ProtectedRequest, RunResult } from '../core/work';
import { Protocol } from '../core/protocol';
import { recordId, type Outcome, type ResponseOutcome } from '../core/record';
import { tombstoneFor, unsendable } from '../outcome/stored-outcome';
import { RequestObservers } from '../observability/observers';
import { SafeLogger } from '../observability/safe-logger';
import type { RouteOptions } from '../options/resolve';
import { fingerprintOf, requestFingerprint } from './request/fingerprint/fingerprint';
import { isDirect } from './handler/direct-handler';
import { answersItself } from './handler/handler-parameters';
import { runHandler, type HandlerAnswers } from './handler/handler-run';
import { watched } from './handler/handler-interceptors';
import { startsOf } from './handler/handler-start';
import { HandlerWatch, leaveUnwatched } from './handler/handler-watch';
import { explained, inTransaction, outcomeInTransaction } from './handler/transactional-handler';
import { letPass } from './handler/unprotected';
import { Explainer } from './explainer';
import { HttpRequest } from './request/http-request';
import { headerKeyOf, keyOf } from './request/key';
import { routePattern, target } from './request/target';
import { sendOrFail } from './response/last-resort';
import { IdempotencyException, problemResponse } from './response/problems';
import { asProblem, notStored, refusalOf } from './response/refusal';
import { replay, substitute } from './response/replay';
import { isHttpRequest, rawResponse, requestOf, responseOf, type PlatformResponse } from './platform';
import { ResponseCapture } from './response/response-capture';
import { RouteOptionsReader } from './routes/route-options';
import { ScopeResolver } from './request/caller/scope';

/**
 * Leads a request to an `@Idempotent()` route through the protocol: names it (key, scope, fingerprint), runs its
 * handler with the response held back, and answers with that response or with the recorded one.
 */
@Injectable()
export class IdempotencyInterceptor implements NestInterceptor {
  private readonly logger = new SafeLogger('Idempotency');
  private unsendableReported = false;

  constructor(
    private readonly protocol: Protocol,
    private readonly routes: RouteOptionsReader,
    private readonly scopes: ScopeResolver,
    private readonly observers: RequestObservers,
    private readonly adapterHost: HttpAdapterHost,
    private readonly digest: Digest,
    private readonly explainer: Explainer,
  ) {}

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    if (!isHttpRequest(context)) return next.handle();
    const route = this.routes.read(context);
    const explained = this.explainer.answer(context, route);
    if (explained) return explained;
    if (!route) return this.handle(context, next, this.routes.documentation);
    return new Observable((subscriber) => {
      const go = (request: ProtectedRequest | undefined): void => {
        if (subscriber.closed) return; // the client has left before anything began
        if (request) void this.protect(context, next, route, request, subscriber);
        else {
          letPass(requestOf(context));
          subscriber.add(this.handle(context, next, route.documentation).subscribe(subscriber));
        }
      };
      const response = responseOf(context);
      const refuse = (error: unknown): void =>
        subscriber.error(refusalOf(response, error, route.documentation));
      try {
        const identified = this.identify(context, route);
        if (identified instanceof Promise) identified.then(go).catch(refuse);
        else go(identified);
      } catch (error) {
        refuse(error);
      }
    });
  }

  /** A handler that works with `IdempotencyService` may refuse its request as we do, with the same answer. */
  private handle(
    context: ExecutionContext,
    next: CallHandler,
    documentation: string | undefined,
  ): Observable<unknown> {
    if (startsOf(context.getHandler())) leaveUnwatched(requestOf(context));
    return next.handle().pipe(
      catchError((error: unknown) => {
        throw problemOf(error, responseOf(context), documentation);
      }),
    );
  }

  /** Undefined if the request has no key and may do without. Most routes have no option to wait for. */
  private identify(
    context: ExecutionContext,
    route: RouteOptions,
  ): ProtectedRequest | undefined | Promise<ProtectedRequest | undefined> {
    if (route.key || route.scope || route.fingerprint) return this.identifyByOptions(context, route);
    try {
      const key = this.demanded(headerKeyOf(context, route), context, route);
      if (key === undefined) return undefined;
      const routed = target(requestOf(context));
      const fingerprint = requestFingerprint(context, this.digest, routed);
      const id = recordId(this.scopes.requestScope(context, route, routed), key, this.digest);
      return new HttpRequest(id, fingerprint, route, context);
    } catch (error) {
      throw this.counted(error, context);
    }
  }

  private async identifyByOptions(
    context: ExecutionContext,
    route: RouteOptions,
  ): Promise<ProtectedRequest | undefined> {
    try {
      const key = this.demanded(await keyOf(context, route), context, route);
      if (key === undefined) return undefined;
      const [scope, fingerprint] = await Promise.all([
        this.scopes.resolve(context, route),
        fingerprintOf(context, route, this.digest),
      ]);
      return new HttpRequest(recordId(scope, key, this.digest), fingerprint, route, context);
    } catch (error) {
      throw this.counted(error, context);
    }
  }

  private demanded(
    key: string | undefined,
    context: ExecutionContext,
    route: RouteOptions,
  ): string | undefined {
    if (key !== undefined) return key;
    if (route.required) throw keyMissing(route);
    this.observers.ended({ routePattern: routePattern(requestOf(context)) }, 'unprotected');
    return undefined;
  }

  private counted(error: unknown, context: ExecutionContext): unknown {
    const outcome = isIdempotencyError(error) ? error.code : 'failed';
    this.observers.ended({ routePattern: routePattern(requestOf(context)) }, outcome);
    return error;
  }

  /** Nothing is torn down with the subscriber: a client that leaves does not cancel its handler. */
  private async protect(
    context: ExecutionContext,
    next: CallHandler,
    route: RouteOptions,
    request: ProtectedRequest,
    subscriber: Subscriber<unknown>,
  ): Promise<void> {
    const response = responseOf(context);
    let before: OutgoingHttpHeaders = {};
    let capture = undefined as ResponseCapture | undefined;
    let refused = false;
    let threw = false;
    try {
      const result = await this.protocol.run(request, async (claim, transaction) => {
        // Something else has answered meanwhile, such as a timeout: no client would get what the handler answers.
        if (rawResponse(response).writableEnded) return undefined;
        const watch = new HandlerWatch(requestOf(context), claim);
        before = response.getHeaders();
        capture = new ResponseCapture(rawResponse(response), route.policy.maxBodySize, route.keepsHeader);
        const answers: HandlerAnswers = {
          reply: (value): unknown => this.adapterHost.httpAdapter.reply(response, value),
          errorFor: (thrown) => {
            threw = true;
            const error = transaction ? explained(transaction, thrown) : thrown;
            refused = error instanceof IdempotencyException;
            return problemOf(error, response, route.documentation);
          },
        };
        const direct = isDirect(context);
        if (transaction) {
          const handling = direct ? watched(context, next, watch) : next.handle();
          const within = inTransaction(handling, transaction, watch, capture);
          runHandler(within, subscriber, capture, undefined, answers); // a transaction has its own timeout
        } else {
          if (direct) watch.begin(startsOf(context.getHandler()));
          const watching = direct ? watch : undefined;
          runHandler(next.handle(), subscriber, capture, route.policy.lease, answers, watching);
        }
        const outcome = await capture.ended;
        // A refusal tells the caller to come back, so it is not an outcome of the request.
        const counts = outcome !== undefined && !refused && this.records(route, outcome);
        if (transaction)
          return outcomeInTransaction(watch, capture, transaction, {
            outcome: counts ? outcome : undefined,
            threw,
          });
        // Nothing was executed where an interceptor or a pipe threw before the handler began, with any answer that a filter made of
        // that. What an interceptor answers itself, as one does that hands its request on, is what has come of it.
        if (counts && (watch.began || !threw)) return outcome;
        if (!watch.running && !watch.cutShort) return undefined;
        const lost = await this.waitForAbandonedHandler(context, watch, capture, outcome);
        return counts && watch.began ? outcome : lost;
      });
      this.answer(response, route, before, capture, result);
    } catch (error) {
      if (error instanceof ClientLeftError) return; // nothing is answered, so that nothing holds the request
      if (capture) {
        const problem = problemResponse(error, route.documentation, before);
        this.replaceWithProblem(response, capture, problem, error);
      } else subscriber.error(refusalOf(response, error, route.documentation));
    }
  }

  /**
   * The response was ended while the handler still runs, for example by a time-out. Its key is not free as long as it
   * does; and unless it was the handler that ended it, its answer is lost, but it has been executed.
   */
  private async waitForAbandonedHandler(
    context: ExecutionContext,
    watch: HandlerWatch,
    capture: ResponseCapture,
    outcome: Outcome | undefined,
  ): Promise<Outcome | undefined> {
    capture.send();
    const unheard = (await watch.succeeded()) && (watch.abandoned || !answersItself(context));
    return unheard && outcome ? tombstoneFor(outcome.status, 'unstorable') : undefined;
  }

  /** An option that fails must not let the handler run again. */
  private records(route: RouteOptions, outcome: Outcome): boolean {
    try {
      return route.records(outcome.status);
    } catch (error) {
      this.logger.error('The `record` option failed, so the response is recorded', error);
      return true;
    }
  }

  private answer(
    response: PlatformResponse,
    { keepsHeader }: RouteOptions,
    before: OutgoingHttpHeaders,
    capture: ResponseCapture | undefined,
    result: RunResult,
  ): void {
    const raw = rawResponse(response);
    // A connection that is kept alive would hold the shutdown up for as long as it idles.
    if (this.protocol.stopping) raw.shouldKeepAlive = false;
    if (result.kind === 'executed') {
      capture?.send();
      return;
    }
    if (capture?.sent) return;
    const { outcome } = result;
    if (outcome.kind === 'tombstone') throw notStored(outcome);
    const problem = unsendable(outcome, raw.req.method);
    if (problem !== undefined) {
      this.reportUnsendable(problem);
      throw notStored({ status: outcome.status, reason: 'unreadable' });
    }
    sendOrFail(raw, () => {
      if (capture && !capture.discard()) return undefined;
      const present = capture ? before : response.getHeaders();
      // Nest must not write to this response any more: its subscriber is told nothing, and Fastify is.
      response.hijack?.();
      return replay(raw, outcome, present, keepsHeader);
    });
  }

  /** Once, as each retry finds the same. */
  private reportUnsendable(problem: string): void {
    if (this.unsendableReported) return;
    this.unsendableReported = true;
    this.logger.error(`A stored response is not replayed, because ${problem}. It was changed in its store`);
  }

  /** The handler has answered Nest already, so no exception filter can run: the problem is written in its place. */
  private replaceWithProblem(
    response: PlatformResponse,
    capture: ResponseCapture,
    problem: ResponseOutcome,
    error: unknown,
  ): void {
    if (!isIdempotencyError(error))
      this.logger.error('An idempotent request failed after its handler had run', error);
    const raw = rawResponse(response);
    sendOrFail(raw, () => (!capture.sent && capture.discard() ? substitute(raw, problem) : undefined));
  }
}

/** A refusal of ours as the answer that it gets; any other error as it is. */
function problemOf(error: unknown, response: PlatformResponse, documentation: string | undefined): unknown {
  return error instanceof IdempotencyException ? asProblem(response, error, documentation) : error;
}

function keyMissing(route: RouteOptions): IdempotencyError {
  const source = route.key
    ? 'this route takes it from the request'
    : `send it in the header ${route.headers[0]}`;
  return new IdempotencyError('key_missing', `This request needs an idempotency key: ${source}.`);
}
