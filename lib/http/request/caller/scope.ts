import { Injectable, Logger, type ExecutionContext } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { Digest } from '../../../core/digest';
import type { RouteOptions } from '../../../options/resolve';
import { assertConnected } from './client-certificate';
import { principalOfCredentials, principalOfScope, principalOfUser } from './principal';
import { rawRequest, requestOf, userOf, type PlatformRequest } from '../../platform';
import { runOption } from '../option-function';
import { target, type Target } from '../target';
import { RouteSelectors } from './route-selectors';
import { scopeText, type Principal } from './scope-text';

/** Says to whom a request's key belongs. */
@Injectable()
export class ScopeResolver {
  private readonly logger = new Logger('Idempotency');
  private warned = false;

  constructor(
    private readonly selectors: RouteSelectors,
    private readonly digest: Digest,
    private readonly adapterHost: HttpAdapterHost,
  ) {}

  async resolve(context: ExecutionContext, options: RouteOptions): Promise<string> {
    const { scope } = options;
    if (!scope) return this.requestScope(context, options);
    const ask = async (): Promise<Principal | undefined> => principalOfScope(await scope(context));
    return this.scopeOf(context, await runOption('scope', context, ask));
  }

  /**
   * {@link resolve} a route without a `scope` option.
   * @param routed what was routed, if it is known already
   */
  requestScope(context: ExecutionContext, options: RouteOptions, routed?: Target): string {
    const request = requestOf(context);
    return this.scopeOf(context, this.principalOf(request, options), routed);
  }

  private scopeOf(context: ExecutionContext, principal: Principal | undefined, routed?: Target): string {
    const request = requestOf(context);
    const { path, params } = routed ?? target(request);
    const selectors = this.selectors.of(context, request);
    return scopeText(request.method, path, params ? { ...selectors, params } : selectors, principal);
  }

  private principalOf(request: PlatformRequest, options: RouteOptions): Principal | undefined {
    const user = userOf(request);
    // Where a guard has let someone in, the credentials may be those of a service that many users share.
    if (user) return principalOfUser(user);
    const raw = rawRequest(request);
    assertConnected(raw, this.adapterHost);
    const principal = principalOfCredentials(raw, options, this.digest);
    if (principal) this.warnOnce();
    return principal;
  }

  private warnOnce(): void {
    if (this.warned) return;
    this.warned = true;
    this.logger.warn(
      'A request came with credentials, but neither a guard nor middleware has set request.user.id, .sub or .userId. Its ' +
        'key belongs to all its credentials together, cookies included, so a retry with renewed ones is a new request. ' +
        'Set the `scope` option to a function that names the caller.',
    );
  }
}
