import { Digest } from '../../../core/digest';
import { secretKey } from '../../../options/secret';
import { headerPattern } from '../../../options/header-pattern';
import { principalOfCredentials, principalOfScope, principalOfUser } from './principal';
import { normalizedPath } from '../path';
import type { ScopeAnswer } from '../../../options/idempotency.options';
import { scopeText, type Principal, type ScopeSelectors, type ScopeUser } from './scope-text';

/** Whose record it is; without any of these, one that the anonymous callers of the route share. */
export interface HttpCaller extends ScopeSelectors {
  /** What the `scope` option gave. */
  readonly scope?: ScopeAnswer;
  /** `request.user`, or its `id`, `sub` or `userId` alone. */
  readonly user?: ScopeUser;
  /**
   * The headers of the request, for callers that nothing else names. Those that are not credentials do not count.
   * `:client-certificate` is the certificate of a client whose TLS connection Node itself has ended: its `issuer`,
   * `subject` and `subjectAltName` (or `''`), as `X509Certificate` has them, with an empty line between each two.
   */
  readonly credentials?: Readonly<Record<string, string | readonly string[]>>;
  /** The module's `secret`, if it has one: the digest of credentials is keyed by it. */
  readonly secret?: string | Uint8Array;
  /** What the `credentialHeaders` option of the route says, if it is set. */
  readonly credentialHeaders?: readonly string[];
}

/**
 * The scope under which an HTTP route's records are filed, for `IdempotencyService.find`, `forget` and `resolve`.
 * @param path as the route spells it, with the values of its parameters, without the query
 * @throws InvalidOptionsError for a secret that is none
 * @throws TypeError for a user without an id, and where nothing of the credentials lasts
 */
export function httpScope(method: string, path: string, caller: HttpCaller = {}): string {
  return scopeText(method.toUpperCase(), normalizedPath(path) || '/', caller, principalOf(caller));
}

function principalOf({
  scope,
  user,
  credentials,
  credentialHeaders,
  secret,
}: HttpCaller): Principal | undefined {
  if (scope !== undefined) return principalOfScope(scope);
  if (user) return principalOfUser(user);
  if (!credentials) return undefined;
  const headers: Record<string, string> = {};
  const rawHeaders: string[] = [];
  for (const [name, value] of Object.entries(credentials)) {
    const values = [value].flat();
    headers[name.toLowerCase()] = values.join('; ');
    for (const each of values) rawHeaders.push(name, each);
  }
  return principalOfCredentials(
    { headers, rawHeaders },
    {
      headers: [],
      credentialHeaders: credentialHeaders && headerPattern(credentialHeaders),
    },
    new Digest({ secret: secret === undefined ? undefined : secretKey('httpScope', secret) }),
  );
}
