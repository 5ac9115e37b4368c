import { Logger, type ExecutionContext } from '@nestjs/common';
import type { RouteOptions } from '../options/resolve';
import { rawRequest, target, type PlatformRequest } from './request';

/**
 * The scope under which an HTTP route's records are filed, for `IdempotencyService.find`, `forget` and `resolve`.
 * @param path as the client sends it, without the query
 * @param principal what the `scope` option gives, or the user's id; none for anonymous requests
 */
export function httpScope(method: string, path: string, principal?: string): string {
  // A path holds no space, so no two triples read alike.
  return principal === undefined ? `${method} ${path}` : `${method} ${path} ${principal}`;
}

/** Anything else would read alike for different callers, such as "[object Object]". */
function named(principal: unknown): string | undefined {
  if (principal === undefined || (typeof principal === 'string' && principal !== '')) return principal;
  if (isNumber(principal)) return String(principal);
  throw new TypeError(
    'The `scope` option has to give a non-empty string, or undefined for callers that share their keys',
  );
}

const UNNAMED_USER =
  'request.user.id, .sub or .userId is neither a non-empty string nor a finite number, so it does not tell callers ' +
  'apart: set the `scope` option to a function that names the caller';

/** Not NaN, which `Number()` gives for every user id that is no number: all users would be one. */
function isNumber(id: unknown): id is number | bigint {
  return typeof id === 'bigint' || Number.isFinite(id);
}

/** Says to whom a request's key belongs. */
export class ScopeResolver {
  private readonly logger = new Logger('Idempotency');
  private warned = false;

  async resolve(context: ExecutionContext, options: RouteOptions): Promise<string> {
    const request = context.switchToHttp().getRequest<PlatformRequest>();
    const principal = options.scope ? named(await options.scope(context)) : this.principalOf(request);
    return httpScope(request.method, target(request).path, principal);
  }

  private principalOf(request: PlatformRequest): string | undefined {
    const user = request.user as Partial<Record<'id' | 'sub' | 'userId', unknown>> | null | undefined;
    const id = user?.id ?? user?.sub ?? user?.userId;
    if (isNumber(id) || (typeof id === 'string' && id !== '')) return String(id);
    if (id !== undefined && id !== null) throw new TypeError(UNNAMED_USER);
    const { authorization, cookie } = rawRequest(request).headers;
    if (!this.warned && (authorization !== undefined || cookie !== undefined || user)) {
      this.warned = true;
      this.logger.warn(
        'A request came with credentials, but no guard has set request.user.id, .sub or .userId, so its key is shared ' +
          'by all callers of the route: set the `scope` option to a function that names the caller.',
      );
    }
    return undefined;
  }
}
