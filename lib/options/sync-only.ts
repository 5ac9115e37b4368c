import { isPromise } from 'node:util/types';

/**
 * An option's function that decides at once: a promise counts as true, also if it rejects; and its rejection would end
 * the process.
 * @param where names the decorated place in error messages
 */
export function syncOnly<A extends unknown[]>(
  where: string,
  option: string,
  decide: (...args: A) => boolean,
): (...args: A) => boolean {
  return (...args) => {
    let answer: unknown;
    try {
      answer = decide(...args);
    } catch (cause) {
      throw new Error(`The \`${option}\` option of ${where} failed`, { cause });
    }
    if (!isPromise(answer)) return Boolean(answer);
    answer.catch(() => undefined);
    throw new TypeError(`The \`${option}\` option of ${where} has to answer at once, not with a promise`);
  };
}
