import { createServer, type AddressInfo } from 'node:net';
import { retrying } from './retry';

/** A loopback port that is free now; another process may still take it before a server does. */
async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve, reject) => probe.once('error', reject).listen(0, '127.0.0.1', resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/**
 * Starts something on the given port; without one on a free port, and on another if another process takes that in
 * between, as happens when several processes start servers at once.
 * @throws what `start` rejects with
 */
export async function onFreePort<T>(
  fixed: number | undefined,
  start: (port: number) => Promise<T>,
): Promise<T> {
  if (fixed !== undefined) return start(fixed);
  return retrying({ on: /address already in use/i, attempts: 5, pause: 0 }, async () =>
    start(await freePort()),
  );
}
