import { setTimeout as delay } from 'node:timers/promises';

/**
 * Whether the promise has settled before `timeout` ms have passed; resolves then. The timer holds the process, which has
 * yet to go on.
 */
export async function settledWithin(promise: Promise<unknown>, timeout: number): Promise<boolean> {
  const timer = new AbortController();
  const pause = delay(timeout, false, { signal: timer.signal });
  const settled = promise.then(
    () => true,
    () => true,
  );
  const inTime = await Promise.race([settled, pause]);
  timer.abort();
  return inTime;
}
