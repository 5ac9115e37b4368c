import { isPromise } from 'node:util/types';

/** A promise counts as true, also if it rejects; and its rejection would end the process. */
export function syncOnly<A extends unknown[]>(
  option: string,
  decide: (...args: A) => boolean,
): (...args: A) => boolean {
  return (...args) => {
    const answer: unknown = decide(...args);
    if (!isPromise(answer)) return Boolean(answer);
    answer.catch(() => undefined);
    throw new TypeError(`The \`${option}\` option has to answer at once, not with a promise`);
  };
}
