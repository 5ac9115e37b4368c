import { performance } from 'node:perf_hooks';
import { deadlines, type Deadline } from '../core/deadlines';
import { DeadlineError } from '../store/postgres/connection/failures';

/**
 * What the application's work comes to, unless it takes too long: it goes on then, and nothing waits for it.
 * @param what takes so long, for the error
 * @param timeout milliseconds
 * @throws DeadlineError; the errors of the work
 */
export function bounded<T>(work: Promise<T>, what: string, timeout: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const deadline: Deadline = {
      dueAt: performance.now() + timeout,
      expire: () => reject(new DeadlineError(what, timeout)),
    };
    deadlines.add(deadline);
    work.then(resolve, reject).finally(() => deadlines.delete(deadline));
  });
}
