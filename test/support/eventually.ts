import { setTimeout as delay } from 'node:timers/promises';

/** Repeats a check until it passes; after `timeout` ms its last error is thrown. */
export async function eventually<T>(check: () => T | Promise<T>, timeout = 15_000): Promise<T> {
  const deadline = Date.now() + timeout;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
    await delay(15);
  }
}
