import { Injectable, type CallHandler, type ExecutionContext, type NestInterceptor } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { catchError, Observable, type Subscriber } from 'rxjs';
import { Digest } from '../core/digest';
import { ClientLeftError, IdempotencyError, isIdempotencyError } from '../core/errors';
import type { ProtectedRequest, RunResult } from '../core/work';
import { Protocol } from '../core/protocol';
import { recordId, type ResponseOutcome } from '../core/record';
import { unsendable } from '../outcome/stored-outcome';
import { RequestObservers } from '../observability/observers';
import { SafeLogger } from '../observability/safe-logger';
import type { RouteOptions } from '../options/resolve';
import { fingerprintOf, requestFingerprint } from './request/fingerprint/fingerprint';
import { HandlerRun } from './handler/handler-run';
import { startsOf } from './handler/handler-start';
import { leaveUnwatched } from './handler/handler-watch';
import { letPass } from './handler/unprotected';
import { Explainer } from './explainer';
import { HttpRequest } from './request/http-request';
import { headerKeyOf, keyOf } from './request/key';
import { routePattern, target } from './request/target';
import { sendOrFail } from './response/last-resort';
import { problemResponse } from './response/problems';
import { notStored, problemOf, refusalOf } from './response/refusal';
import { replay, substitute } from './response/replay';
import { isHttpRequest, rawResponse, requestOf, responseOf, type PlatformResponse } from './platform';
import type { ResponseCapture } from './response/response-capture';
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
    if (!route) return this.runUnprotected(context, next, this.routes.documentation);
    return new Observable((subscriber) => {
      const go = (request: ProtectedRequest | undefined): void => {
        if (subscriber.closed) return; // the client has left before anything began
        if (request) void this.protect(context, next, route, request, subscriber);
        else {
          letPass(requestOf(context));
          subscriber.add(this.runUnprotected(context, next, route.documentation).subscribe(subscriber));
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
  private runUnprotected(
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
    const handler = new HandlerRun(context, next, route, subscriber, this.adapterHost);
    try {
      const result = await this.protocol.run(request, (claim, transaction) =>
        handler.run(claim, transaction),
      );
      this.answer(response, route, handler, result);
    } catch (error) {
      if (error instanceof ClientLeftError) return; // nothing is answered, so that nothing holds the request
      const { capture, headersBefore } = handler;
      if (capture) {
        const problem = problemResponse(error, route.documentation, headersBefore);
        this.replaceWithProblem(response, capture, problem, error);
      } else subscriber.error(refusalOf(response, error, route.documentation));
    }
  }

  private answer(
    response: PlatformResponse,
    { keepsHeader }: RouteOptions,
    { capture, headersBefore }: HandlerRun,
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
      const present = capture ? headersBefore : response.getHeaders();
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

function keyMissing(route: RouteOptions): IdempotencyError {
  const source = route.key
    ? 'this route takes it from the request'
    : `send it in the header ${route.headers[0]}`;
  return new IdempotencyError('key_missing', `This request needs an idempotency key: ${source}.`);
}
