import { Injectable, type ExecutionContext } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import type { IncomingMessage, Server } from 'node:http';
import { from, of, type Observable } from 'rxjs';
import { Digest } from '../core/digest';
import type { Explanation, RequestDescription } from '../core/explanation';
import { recordId } from '../core/record';
import { callerOf } from '../core/scope-parts';
import type { RouteOptions } from '../options/resolve';
import { madeUpRequest } from './made-up-request';
import { rawRequest, type PlatformRequest } from './platform';
import { ScopeResolver } from './request/caller/scope';
import { fingerprintOf } from './request/fingerprint/fingerprint';
import { keyOf } from './request/key';

type Answer = (explanation: Explanation) => void;

/** Milliseconds until what middleware or a guard holds back is given up. */
const TIMEOUT = 10_000;

/**
 * Says how a request would be named, without running its handler: a request that is made up goes through middleware and
 * guards, up to where a real one would be protected.
 */
@Injectable()
export class Explainer {
  private readonly asked = new WeakMap<IncomingMessage, Answer>();
  private used = false;

  constructor(
    private readonly adapterHost: HttpAdapterHost,
    private readonly scopes: ScopeResolver,
    private readonly digest: Digest,
  ) {}

  /** @throws InvalidOptionsError */
  explain(described: RequestDescription): Promise<Explanation> {
    this.used = true;
    return new Promise((resolve) => {
      const [request, response] = madeUpRequest(described);
      const answer = (explanation: Explanation): void => {
        clearTimeout(timer);
        resolve(explanation);
      };
      const unreached = (why: string): void => answer({ protected: false, why });
      const timer = setTimeout(() => unreached(`nothing was answered within ${TIMEOUT} ms`), TIMEOUT);
      this.asked.set(request, answer);
      response.once('finish', () =>
        unreached(`it was answered with ${response.statusCode} before a protected handler was reached`),
      );
      (this.adapterHost.httpAdapter.getHttpServer() as Server).emit('request', request, response);
    });
  }

  /** Answers a request that was made up, in place of its handler; undefined for every other. */
  answer(context: ExecutionContext, route: RouteOptions | undefined): Observable<void> | undefined {
    if (!this.used) return undefined; // real requests pay for nothing
    const answer = this.asked.get(rawRequest(context.switchToHttp().getRequest<PlatformRequest>()));
    if (!answer) return undefined;
    const handler = `${context.getClass().name}.${context.getHandler().name}`;
    if (!route) {
      answer({ protected: false, why: `${handler} has no @Idempotent() for this method` });
      return of(undefined);
    }
    return from(this.named(context, route, handler).then(answer));
  }

  private async named(context: ExecutionContext, route: RouteOptions, handler: string): Promise<Explanation> {
    try {
      const key = await keyOf(context, route);
      if (key === undefined) {
        const why = route.required
          ? 'without a key it is refused (400)'
          : 'without a key it runs unprotected';
        return { protected: false, why: `${handler}: ${why}` };
      }
      const scope = await this.scopes.resolve(context, route);
      return {
        protected: true,
        handler,
        key,
        keyFrom: keyFrom(context, route),
        scope,
        principal: callerOf(scope),
        principalFrom: principalFrom(scope),
        hash: recordId(scope, key, this.digest).hash,
        fingerprint: await fingerprintOf(context, route, this.digest),
        fingerprintFrom: fingerprintFrom(context, route),
      };
    } catch (error) {
      return {
        protected: false,
        why: `${handler} refuses it: ${error instanceof Error ? error.message : String(error)}`,
      };
    }
  }
}

function keyFrom(context: ExecutionContext, { key, headers }: RouteOptions): string {
  if (key) return 'the `key` option';
  const sent = rawRequest(context.switchToHttp().getRequest<PlatformRequest>()).headers;
  return `header ${headers.filter((name) => name.toLowerCase() in sent).join(', ')}`;
}

function principalFrom(scope: string): string {
  const origin = /^(?:scope|credentials|user\.\w+)/.exec(callerOf(scope) ?? '')?.[0];
  if (origin === undefined) return 'no user, credentials or `scope` option: such callers share their keys';
  if (origin === 'scope') return 'the `scope` option';
  if (origin === 'credentials')
    return 'a digest of all credentials of the request, as there is no request.user';
  return `request.${origin}, which a guard or middleware has set`;
}

function fingerprintFrom(context: ExecutionContext, { fingerprint }: RouteOptions): string {
  if (fingerprint) return 'the `fingerprint` option';
  const { rawBody } = context.switchToHttp().getRequest<PlatformRequest>();
  return `method, path, query and body (${rawBody === undefined ? 'as it was parsed' : 'as it was sent'})`;
}
