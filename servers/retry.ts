import { setTimeout as delay } from 'node:timers/promises';

/** How often to try again, and after which errors. */
export interface Retry {
  /** Only an error whose text matches is worth another try. */
  readonly on: RegExp;
  readonly attempts: number;
  /** Milliseconds between two tries. */
  readonly pause: number;
}

/**
 * Tries again after the errors named, which pass with time.
 * @throws the action's own error: the last one, or the first that does not match
 */
export async function retrying<T>({ on, attempts, pause }: Retry, action: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await action();
    } catch (error) {
      if (attempt >= attempts || !on.test(String(error))) throw error;
      await delay(pause);
    }
  }
}
