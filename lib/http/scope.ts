import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { Injectable, Logger, type ExecutionContext } from '@nestjs/common';
import { HOST_METADATA } from '@nestjs/common/constants';
import { HttpAdapterHost } from '@nestjs/core';
import type { RouteOptions } from '../options/resolve';
import { rawRequest, target, type PlatformRequest } from './request';

/**
 * The scope under which an HTTP route's records are filed, for `IdempotencyService.find`, `forget` and `resolve`.
 * @param path as the client sends it, without the query; for a controller with a `host`, `//<host name><path>`
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
  private warned = false;

  constructor(private readonly adapterHost: HttpAdapterHost) {}

  async resolve(context: ExecutionContext, options: RouteOptions): Promise<string> {
    const request = context.switchToHttp().getRequest<PlatformRequest>();
    const principal = options.scope ? named(await options.scope(context)) : this.principalOf(request);
    return httpScope(request.method, this.hostOf(context, request) + target(request).path, principal);
  }

  /** Controllers told apart by their host are different resources, often different tenants. */
  private hostOf(context: ExecutionContext, request: PlatformRequest): string {
    // @Controller() sets it on every class, to undefined where there is none.
    if (Reflect.getMetadata(HOST_METADATA, context.getClass()) === undefined) return '';
    const host = this.adapterHost.httpAdapter.getRequestHostname(request) as string | undefined;
    return `//${encodeURIComponent(host ?? '')}`;
  }

  private principalOf(request: PlatformRequest): string | undefined {
    const user = request.user as Partial<Record<'id' | 'sub' | 'userId', unknown>> | null | undefined;
    const id = user?.id ?? user?.sub ?? user?.userId;
    if (typeof id === 'number' || typeof id === 'bigint' || (typeof id === 'string' && id !== ''))
      return String(id);
    const credentials = credentialsIn(rawRequest(request).headers);
    if (!user && credentials.length === 0) return undefined;
    this.warnOnce();
    return lasts(credentials) ? `credentials:${digest(credentials)}` : undefined;
  }

  private warnOnce(): void {
    if (this.warned) return;
    this.warned = true;
    this.logger.warn(
      'A request came with credentials, but no guard has set request.user.id, .sub or .userId. Its key belongs to the ' +
        'credentials themselves, so a retry with renewed ones is a new request; and where each request is signed anew, all ' +
        'callers of the route share their keys. Set the `scope` option to a function that names the caller.',
    );
  }
}

/** Anything else would read alike for different callers, such as "[object Object]". */
function named(principal: unknown): string | undefined {
  if (principal === undefined || (typeof principal === 'string' && principal !== '')) return principal;
  if (typeof principal === 'number' || typeof principal === 'bigint') return String(principal);
  throw new TypeError(
    'The `scope` option has to give a non-empty string, or undefined for callers that share their keys',
  );
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
