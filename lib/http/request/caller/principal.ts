import type { Digest } from '../../../core/digest';
import { credentialsOf, digestOf, type CredentialRules, type RequestHead } from './credentials';
import type { CallerName } from '../../../options/idempotency.options';
import type { Principal, ScopeUser } from './scope-text';

const USER_PROPERTIES = ['id', 'sub', 'userId'] as const;

/** @throws TypeError for anything that reads alike for different callers, such as "[object Object]" */
export function principalOfScope(answer: unknown): Principal | undefined {
  if (answer === undefined) return undefined;
  if (
    isName(answer) ||
    (Array.isArray(answer) && answer.length > 0 && Array.from<unknown>(answer).every(isName))
  )
    return { scope: answer as CallerName | CallerName[] };
  throw new TypeError(
    'The `scope` option must return a non-empty string, a number below 2^53, or a non-empty list of them; or undefined ' +
      'for callers that share their keys',
  );
}

/** @throws TypeError for a user without a usable id: all users would be one */
export function principalOfUser(user: object): Principal {
  const named = user as ScopeUser;
  const property = USER_PROPERTIES.find((each) => (named[each] ?? undefined) !== undefined);
  const id = property && named[property];
  if (property && isName(id)) return { user: [property, id] };
  throw new TypeError(
    'There is a request.user, but its .id, .sub or .userId is missing, or neither a non-empty string nor a ' +
      'number below 2^53, so it does not identify the caller: set the `scope` option to a function that names the caller',
  );
}

/** @throws TypeError for a caller whose credentials are all made anew for each request: all such callers would be one */
export function principalOfCredentials(
  request: RequestHead,
  rules: CredentialRules,
  digest: Digest,
): Principal | undefined {
  const { lasting, perRequest } = credentialsOf(request, rules);
  if (lasting.length > 0) return { credentials: digestOf(lasting, digest) };
  if (!perRequest) return undefined;
  throw new TypeError(
    'The credentials of this request are made anew for each request, and no guard or middleware has set request.user, so ' +
      'a retry could not be recognised: set the `scope` option to a function that names the caller',
  );
}

/**
 * Not NaN, which `Number()` makes of every user id that is not a number: all users would be one. Nor a number beyond
 * 2^53, such as a snowflake id that JSON was parsed to: several ids become one there.
 */
export function isName(id: unknown): id is CallerName {
  if (typeof id === 'number') return Math.abs(id) <= Number.MAX_SAFE_INTEGER;
  return (typeof id === 'string' && id !== '') || typeof id === 'bigint';
}
