import { randomUUID } from 'node:crypto';
import { Agent, request } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Order } from './host';
import type { Effect } from './plan';

/** What the process that makes the load is asked to do. */
export type Job =
  | {
      readonly kind: 'load';
      readonly url: string;
      readonly connections: number;
      readonly seconds: number;
      readonly bytes: number;
      readonly effect: Effect;
      /** Taken in turns; without any, each request has a key of its own. */
      readonly keys?: readonly string[];
    }
  | {
      readonly kind: 'burst';
      readonly url: string;
      readonly count: number;
      readonly order: Order;
      /** Taken in turns; without any, each request has a key of its own. */
      readonly keys?: readonly string[];
    };

export interface Load {
  readonly perSecond: number;
  readonly responses: number;
  /** Responses of another status than 201, and connections that broke. */
  readonly failures: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

export interface Burst {
  /** Milliseconds until the last answer. */
  readonly ms: number;
  readonly statuses: Readonly<Record<number, number>>;
}

export interface Task {
  readonly id: number;
  readonly job: Job;
}

export interface Done {
  readonly id: number;
  readonly result?: Load | Burst;
  readonly error?: string;
}

/** The part of autocannon that is used. */
interface Run extends PromiseLike<{ readonly errors: number; readonly duration: number }> {
  on(event: 'response', listener: (client: unknown, status: number, bytes: number, ms: number) => void): void;
}
type Autocannon = (options: Readonly<Record<string, unknown>>) => Run;

/** Loaded when it is used: whoever imports this file may have to install it first. */
const autocannon: Autocannon = (options) =>
  (createRequire(join(__dirname, 'rivals/package.json'))('autocannon') as Autocannon)(options);

/** Sockets that are open before a burst starts, as a balancer's are. */
const agent = new Agent({ keepAlive: true, maxSockets: Infinity, maxFreeSockets: Infinity });

/** As many bytes of JSON with an effect as without. */
export function orderOf(bytes: number, effect: Effect): Order {
  const order = { user_id: 'bench', ...(effect === 'row' ? { row: true } : {}), filling: '' };
  return { ...order, filling: 'x'.repeat(bytes - JSON.stringify(order).length) };
}

/** The next of these keys with each call, or a new one. */
function keysOf(keys: readonly string[] | undefined): () => string {
  const prefix = randomUUID();
  let next = 0;
  return () => keys?.[next++ % keys.length] ?? `${prefix}-${next++}`;
}

async function load(job: Job & { kind: 'load' }): Promise<Load> {
  const { url, connections, seconds, bytes, effect, keys } = job;
  const times: number[] = [];
  let failures = 0;
  const key = keysOf(keys);
  const run = autocannon({
    url,
    connections,
    duration: seconds,
    method: 'POST',
    body: JSON.stringify(orderOf(bytes, effect)),
    requests: [
      {
        setupRequest: (request: object) => ({
          ...request,
          headers: { 'content-type': 'application/json', 'idempotency-key': key() },
        }),
      },
    ],
  });
  const startedAt = performance.now();
  let lastAt = startedAt;
  run.on('response', (_client, status, _bytes, ms) => {
    lastAt = performance.now();
    times.push(ms);
    if (status !== 201) failures += 1;
  });
  const { errors } = await run;
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.floor((times.length - 1) * share)] ?? NaN;
  return {
    perSecond: (times.length / (lastAt - startedAt)) * 1000,
    responses: times.length,
    failures: failures + errors,
    p50: at(0.5),
    p95: at(0.95),
    p99: at(0.99),
  };
}

async function burst({ url, count, order, keys }: Job & { kind: 'burst' }): Promise<Burst> {
  const key = keysOf(keys);
  const body = JSON.stringify(order);
  const statuses: Record<number, number> = {};
  const startedAt = performance.now();
  await Promise.all(
    Array.from({ length: count }, async () => {
      const status = await send(url, key(), body);
      statuses[status] = (statuses[status] ?? 0) + 1;
    }),
  );
  return { ms: performance.now() - startedAt, statuses };
}

function send(url: string, key: string, body: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      'idempotency-key': key,
    };
    const sent = request(url, { agent, method: 'POST', headers }, (response) => {
      response.resume().once('end', () => resolve(response.statusCode ?? 0));
    });
    sent.once('error', (error) => {
      // The server may have closed a socket that idled for five seconds just when it was taken again.
      if (sent.reusedSocket) send(url, key, body).then(resolve, reject);
      else reject(error);
    });
    sent.end(body);
  });
}

if (process.send) {
  process.once('disconnect', () => process.exit(0));
  process.on('message', ({ id, job }: Task) => {
    const done: Promise<Load | Burst> = job.kind === 'load' ? load(job) : burst(job);
    done.then(
      (result) => process.send?.({ id, result } satisfies Done),
      (error: unknown) => process.send?.({ id, error: String(error) } satisfies Done),
    );
  });
}
