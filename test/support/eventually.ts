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

/** Waits until a condition holds; after 30 s, which only a machine that is far too busy takes, it fails. */
export function until(holds: () => boolean | Promise<boolean>, what = holds.toString()): Promise<void> {
  return eventually(async () => {
    if (!(await holds())) throw new Error(`waited in vain until ${what}`);
  }, 30_000);
}
