import { AsyncResource } from 'node:async_hooks';

/** Made when the module is loaded, which is before any request. */
const outside = new AsyncResource('IdempotencyBackground');

/**
 * Runs what serves more than one request (renewals, batches, probes, connections) outside of the async context of the
 * request that happens to start it: it would be charged to that request's trace, and keep its AsyncLocalStorage alive.
 */
export function inBackground<T>(work: () => T): T {
  return outside.runInAsyncScope(work);
}
