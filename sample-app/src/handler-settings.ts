import { setTimeout } from 'node:timers/promises';

/** SAMPLE_TRANSACTION=false: the webhook's handler runs under a lease, and not in a transaction. */
export function inTransaction(): boolean {
  return process.env.SAMPLE_TRANSACTION !== 'false';
}

/** SAMPLE_DELAY: so many milliseconds pass between the handler's effect and its end, in which you can kill the process. */
export async function delay(): Promise<void> {
  const milliseconds = Number(process.env.SAMPLE_DELAY ?? 0);
  if (milliseconds > 0) await setTimeout(milliseconds);
}
