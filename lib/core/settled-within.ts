import { setTimeout as delay } from 'node:timers/promises';

/** Resolves once the promise has settled, or `timeout` ms have passed. The timer holds the process, which has yet to go on. */
export async function settledWithin(promise: Promise<unknown>, timeout: number): Promise<void> {
  const timer = new AbortController();
  const pause = delay(timeout, undefined, { signal: timer.signal });
  await Promise.race([promise, pause]).catch(() => undefined);
  timer.abort();
}
