import {
  HttpException,
  Injectable,
  Logger,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { catchError, from, mergeMap, Observable, type Subscriber } from 'rxjs';
import { IdempotencyError, isIdempotencyError } from '../core/errors';
import { Protocol, type ProtectedRequest, type RunResult } from '../core/protocol';
import { recordId, type Outcome } from '../core/record';
import { tombstoneFor } from '../core/stored-outcome';
import { IdempotencyMetrics } from '../observability/metrics';
import type { RouteOptions } from '../options/resolve';
import { fingerprintOf } from './fingerprint';
import { keyOf } from './key';
import { IdempotencyException, PROBLEM_TYPE, problemResponse } from './problems';
import { replay, substitute } from './replay';
import { rawResponse, setContext, type PlatformResponse } from './request';
import { ResponseCapture } from './response-capture';
import { RouteOptionsReader } from './route-options';
import { ScopeResolver } from './scope';

/**
 * Leads a request to an `@Idempotent()` route through the protocol: names it (key, scope, fingerprint), runs its
 * handler with the response held back, and answers with that response or with the recorded one.
 */
@Injectable()
export class IdempotencyInterceptor implements NestInterceptor {
  private readonly logger = new Logger('Idempotency');
  private readonly scopes = new ScopeResolver();

  constructor(
    private readonly protocol: Protocol,
    private readonly routes: RouteOptionsReader,
    private readonly metrics: IdempotencyMetrics,
    private readonly adapterHost: HttpAdapterHost,
  ) {}

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const route = context.getType() === 'http' ? this.routes.read(context) : undefined;
    if (!route) return next.handle();
    return from(this.identify(context, route)).pipe(
      catchError((error: unknown) => {
        throw this.refusal(context, error);
      }),
      mergeMap((request) => (request ? this.protect(context, next, route, request) : next.handle())),
    );
  }

  /** Undefined if the request has no key and may do without. */
  private async identify(
    context: ExecutionContext,
    route: RouteOptions,
  ): Promise<ProtectedRequest | undefined> {
    try {
      const key = await keyOf(context, route);
      if (key === undefined) {
        if (route.required) throw keyMissing(route);
        this.metrics.request('unprotected');
        return undefined;
      }
      const [scope, fingerprint] = await Promise.all([
        this.scopes.resolve(context, route),
        fingerprintOf(context, route),
      ]);
      return { id: recordId(scope, key), fingerprint, policy: route.policy };
    } catch (error) {
      this.metrics.request(isIdempotencyError(error) ? error.code : 'failed');
      throw error;
    }
  }

  private protect(
    context: ExecutionContext,
    next: CallHandler,
    route: RouteOptions,
    request: ProtectedRequest,
  ): Observable<unknown> {
    return new Observable((subscriber) => {
      const response = context.switchToHttp().getResponse<PlatformResponse>();
      let capture: ResponseCapture | undefined;
      this.protocol
        .run(request, async (claim) => {
          setContext(context.switchToHttp().getRequest<object>(), claim);
          capture = new ResponseCapture(rawResponse(response), route.policy.maxBodySize, route.keepsHeader);
          this.runHandler(next, subscriber, response, capture, route.policy.lease);
          const outcome = await capture.ended;
          return outcome && this.records(route, outcome) ? outcome : undefined;
        })
        .then((result) => this.answer(context, capture, result))
        .catch((error: unknown) => this.refuse(context, subscriber, capture, error));
      // Deliberately no teardown: a client that leaves does not cancel its handler.
    });
  }

  /**
   * Nest 12 drops the chain of a handler that returns an Observable when its client has left; what the handler then
   * answers is written here in Nest's place, so that the retry gets it.
   */
  private runHandler(
    next: CallHandler,
    subscriber: Subscriber<unknown>,
    response: PlatformResponse,
    capture: ResponseCapture,
    lease: number,
  ): void {
    const values: unknown[] = [];
    const settled = (): void => capture.abandonOnceClosed(lease);
    next.handle().subscribe({
      next: (value) => {
        values[0] = value;
        subscriber.next(value);
      },
      error: (error: unknown) => {
        if (subscriber.closed) {
          capture.abandon(tombstoneFor(statusOf(error), 'unstorable'));
        } else subscriber.error(error);
        settled();
      },
      complete: () => {
        if (!subscriber.closed) subscriber.complete();
        else if (values.length > 0) this.adapterHost.httpAdapter.reply(response, values[0]);
        else capture.abandon(undefined);
        settled();
      },
    });
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

  private answer(context: ExecutionContext, capture: ResponseCapture | undefined, result: RunResult): void {
    const response = context.switchToHttp().getResponse<PlatformResponse>();
    // A connection that is kept alive would hold the shutdown up for as long as it idles.
    if (this.protocol.stopping) rawResponse(response).shouldKeepAlive = false;
    if (result.kind === 'executed') {
      capture?.send();
      return;
    }
    const { outcome } = result;
    if (outcome.kind === 'tombstone') throw notStored(outcome);
    if (capture && !capture.discard()) return;
    // Nest must not write to this response any more: its subscriber never hears of it, and Fastify is told.
    response.hijack?.();
    replay(rawResponse(response), outcome);
  }

  private refuse(
    context: ExecutionContext,
    subscriber: Subscriber<unknown>,
    capture: ResponseCapture | undefined,
    error: unknown,
  ): void {
    if (!capture) {
      subscriber.error(this.refusal(context, error));
      return;
    }
    // The handler has answered Nest already, so no exception filter can run: the problem is written in its place.
    if (!isIdempotencyError(error))
      this.logger.error('An idempotent request failed after its handler had run', error);
    const response = rawResponse(context.switchToHttp().getResponse<PlatformResponse>());
    if (capture.discard()) substitute(response, problemResponse(error));
  }

  /**
   * The exception for Nest's filters. What they make of it is left to the application; only where it is our problem
   * document as it is, the content type says so.
   */
  private refusal(context: ExecutionContext, error: unknown): unknown {
    if (!isIdempotencyError(error)) return error;
    const exception = new IdempotencyException(error);
    const response = context.switchToHttp().getResponse<PlatformResponse>();
    if (exception.retryAfter !== undefined) setHeader(response, 'Retry-After', String(exception.retryAfter));
    const problem = JSON.stringify(exception.getResponse());
    const capture = new ResponseCapture(rawResponse(response), Infinity, () => true);
    void capture.ended.then((outcome) => {
      const asItIs = outcome?.kind === 'response' && outcome.body.toString() === problem;
      capture.send(asItIs ? { 'Content-Type': PROBLEM_TYPE } : {});
    });
    return exception;
  }
}

function setHeader(response: PlatformResponse, name: string, value: string): void {
  if (response.header && response.raw) response.header(name, value);
  else rawResponse(response).setHeader(name, value);
}

function statusOf(error: unknown): number {
  return error instanceof HttpException ? error.getStatus() : 500;
}

function keyMissing(route: RouteOptions): IdempotencyError {
  const source = route.key
    ? 'this route takes it from the request'
    : `send it in the header ${route.headers[0]}`;
  return new IdempotencyError('key_missing', `This request needs an idempotency key: ${source}.`);
}

function notStored({ reason, status }: Outcome & { kind: 'tombstone' }): IdempotencyError {
  const why = reason === 'too_large' ? 'was too large to be stored' : 'could not be stored';
  return new IdempotencyError(
    'outcome_not_stored',
    `The request was executed before and answered with status ${status}, but its response ${why}. It is not executed again.`,
  );
}
