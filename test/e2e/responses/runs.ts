import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';

/** How often handlers and interceptors ran since the test began. */
export const runs = { handler: 0, interceptor: 0 };

export function forgetRuns(): void {
  Object.assign(runs, { handler: 0, interceptor: 0 });
}

/** For a handler: counts this run, and gives a text that no other run gives. */
export function run(): string {
  runs.handler += 1;
  return `run ${runs.handler} ${randomUUID()}`;
}

export type AnyResponse = ServerResponse | { readonly raw: ServerResponse };

/** Node's own response on either platform. */
export function raw(response: AnyResponse): ServerResponse {
  return 'raw' in response ? response.raw : response;
}
