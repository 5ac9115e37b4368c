import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { Injectable, Logger, type ExecutionContext, type Type } from '@nestjs/common';
import { HOST_METADATA } from '@nestjs/common/constants';
import { HttpAdapterHost } from '@nestjs/core';
import type { RouteOptions } from '../options/resolve';
import { rawRequest, target, userOf, type PlatformRequest } from './request';

/**
 * The scope under which an HTTP route's records are filed, for `IdempotencyService.find`, `forget` and `resolve`.
 * @param path as it was routed (what the client sends, unless something rewrites URLs), without the query; for a
 * controller with a `host`, `//<host name><path>`
 * @param principal what the `scope` option gives, or the user's id; none for anonymous requests
 */
export function httpScope(method: string, path: string, principal?: string): string {
  // A path holds no space, so no two triples read alike.
  return principal === undefined ? `${method} ${path}` : `${method} ${path} ${principal}`;
}

/** Where callers prove who they are, for when no guard has said it. */
const CREDENTIALS = ['authorization', 'x-api-key', 'api-key', 'x-auth-token', 'x-access-token'];

/**
 * A scheme and one opaque token, or the token alone (RFC 9110, 11.4). Schemes with parameters (Digest, AWS4-HMAC-SHA256,
 * OAuth) sign each request anew, so a retry could not be recognised by them; nor by those that negotiate per connection.
 */
const LASTING = /^(?!(?:negotiate|ntlm) )(?:[!#$%&'*+.^_`|~\w-]+ +)?[\w.~+/-]+=*$/i;

/** Says to whom a request's key belongs. */
@Injectable()
export class ScopeResolver {
  private readonly logger = new Logger('Idempotency');
  private readonly withHost = new WeakMap<Type, boolean>();
  private warned = false;

  constructor(private readonly adapterHost: HttpAdapterHost) {}

  async resolve(context: ExecutionContext, options: RouteOptions): Promise<string> {
    return options.scope
      ? this.scopeOf(context, named(await options.scope(context)))
      : this.requestScope(context);
  }

  /** {@link resolve} a route without a `scope` option. */
  requestScope(context: ExecutionContext): string {
    return this.scopeOf(context, this.principalOf(context.switchToHttp().getRequest<PlatformRequest>()));
  }

  private scopeOf(context: ExecutionContext, principal: string | undefined): string {
    const request = context.switchToHttp().getRequest<PlatformRequest>();
    return httpScope(request.method, this.hostOf(context, request) + target(request).path, principal);
  }

  /** Controllers told apart by their host are different resources, often different tenants. */
  private hostOf(context: ExecutionContext, request: PlatformRequest): string {
    if (!this.hasHost(context.getClass())) return '';
    const host = this.adapterHost.httpAdapter.getRequestHostname(request) as string | undefined;
    return `//${encodeURIComponent(host ?? '')}`;
  }

  private hasHost(type: Type): boolean {
    let has = this.withHost.get(type);
    // Nest sets it on every controller, most often to undefined.
    if (has === undefined)
      this.withHost.set(type, (has = Reflect.getMetadata(HOST_METADATA, type) !== undefined));
    return has;
  }

  private principalOf(request: PlatformRequest): string | undefined {
    const user = userOf(request) as Partial<Record<'id' | 'sub' | 'userId', unknown>> | null | undefined;
    const id = user?.id ?? user?.sub ?? user?.userId;
    if (isNumber(id) || (typeof id === 'string' && id !== '')) return String(id);
    const credentials = credentialsIn(rawRequest(request).headers);
    if (lasts(credentials)) {
      this.warnOnce();
      return `credentials:${digest(credentials)}`;
    }
    // Somebody, but nobody knows who: all users would share their keys.
    if (user) {
      throw new TypeError(
        'There is a request.user, but its .id, .sub or .userId is missing, or neither a non-empty string nor a finite ' +
          'number, so it does not tell callers apart: set the `scope` option to a function that names the caller',
      );
    }
    if (credentials.length > 0) this.warnOnce();
    return undefined;
  }

  private warnOnce(): void {
    if (this.warned) return;
    this.warned = true;
    this.logger.warn(
      'A request came with credentials, but neither a guard nor middleware has set request.user.id, .sub or .userId. Its ' +
        'key belongs to the credentials themselves, so a retry with renewed ones is a new request; and where each request ' +
        'is signed anew and there is no request.user, all callers of the route share their keys. Set the `scope` option ' +
        'to a function that names the caller.',
    );
  }
}

/** Anything else would read alike for different callers, such as "[object Object]". */
function named(principal: unknown): string | undefined {
  if (principal === undefined || (typeof principal === 'string' && principal !== '')) return principal;
  if (isNumber(principal)) return String(principal);
  throw new TypeError(
    'The `scope` option has to give a non-empty string, or undefined for callers that share their keys',
  );
}

/** Not NaN, which `Number()` makes of every user id that is no number: all users would be one. */
function isNumber(id: unknown): id is number | bigint {
  return typeof id === 'bigint' || Number.isFinite(id);
}

type Credentials = readonly (readonly [header: string, value: string])[];

function credentialsIn(headers: IncomingHttpHeaders): Credentials {
  const given = (names: readonly string[]): Credentials =>
    names.flatMap((name) => (headers[name] === undefined ? [] : [[name, String(headers[name])] as const]));
  const proofs = given(CREDENTIALS);
  // Cookies also hold what changes by itself, so they count only where there is nothing else.
  return proofs.length > 0 ? proofs : given(['cookie']);
}

function lasts(credentials: Credentials): boolean {
  return (
    credentials.length > 0 &&
    credentials.every(([name, value]) => name !== 'authorization' || LASTING.test(value))
  );
}

function digest(credentials: Credentials): string {
  return createHash('sha256').update(JSON.stringify(credentials)).digest('hex');
}
