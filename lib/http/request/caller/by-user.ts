import type { ExecutionContext } from '@nestjs/common';
import type { ScopeAnswer } from '../../../options/idempotency.options';
import { requestOf } from '../../platform';
import { isName } from './principal';

const FIX = 'Have a guard or middleware set the user before this route is reached.';

/**
 * For the `scope` option: the key belongs to the user of the request, whom the function names from what a guard or
 * middleware has put there. Where a name is missing (undefined, null, empty, NaN), the request is refused and nothing runs:
 * callers never come to share their keys.
 * @param nameOf a name, or a list of names that identify the user together:
 * `byUser((request: AuthedRequest) => [request.user.tenant, request.user.sub])`
 * @returns a function that throws TypeError (500) for a request whose user is not named
 */
// The application says what its requests are, as Nest cannot know.
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters
export function byUser<R>(
  nameOf: (request: R) => ScopeAnswer | Promise<ScopeAnswer>,
): (context: ExecutionContext) => Promise<ScopeAnswer> {
  return async function byUser(context) {
    const answer = await read(nameOf, requestOf(context) as R);
    assertNamed(answer);
    return answer;
  };
}

async function read<R>(
  nameOf: (request: R) => ScopeAnswer | Promise<ScopeAnswer>,
  request: R,
): Promise<ScopeAnswer> {
  try {
    return await nameOf(request);
  } catch (error) {
    // Such as a property of a user that is not there.
    if (!(error instanceof TypeError)) throw error;
    throw new TypeError(`byUser() could not read the user of this request: ${error.message}. ${FIX}`, {
      cause: error,
    });
  }
}

/** The message shows no value: it may be a name. */
function assertNamed(answer: unknown): void {
  const names = Array.isArray(answer) ? Array.from<unknown>(answer) : [answer];
  const missing = names.findIndex((name) => !isName(name));
  if (missing < 0 && names.length > 0) return;
  const which = names.length > 1 ? `part ${missing + 1} of the user's name` : "the user's name";
  throw new TypeError(
    `byUser(): ${which} is missing, or neither a non-empty string nor a number below 2^53, so it identifies no user. ${FIX}`,
  );
}
