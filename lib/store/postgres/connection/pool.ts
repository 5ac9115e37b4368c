import type { Client, Pool, PoolConfig } from 'pg';
import { performance } from 'node:perf_hooks';
import type { DataSource } from 'typeorm';
import { IdempotencySetupError } from '../../../core/errors';
import { isLate } from '../../batching/late';

/** What pg takes, including what its types do not know yet. */
type DuplicateConfig = PoolConfig & { binary: boolean; pipeline: boolean };

/** A pool of pg that belongs to the application: only its settings are read. */
export interface ApplicationPool {
  readonly options: PoolConfig;
  readonly Client: new (config?: PoolConfig) => Client;
}

/** The pool under the DataSource; with replication, the master's. */
export function applicationPool(dataSource: DataSource): ApplicationPool {
  const { master } = dataSource.driver as { master?: ApplicationPool };
  if (!master) {
    throw new IdempotencySetupError(
      'the DataSource is not initialized yet. Initialize it before the application starts.',
    );
  }
  return master;
}

/** Our own, as an application may have changed pg's global type parsers. */
function getTypeParser(oid: number): (text: string) => unknown {
  switch (oid) {
    case 16: // boolean
      return (text) => text === 't';
    case 20: // bigint
    case 21: // smallint
    case 23: // integer
    case 701: // double precision
      return Number;
    default:
      return (text) => text;
  }
}

/** Told of each client of the pool. */
export interface ClientObserver {
  /** Its socket may be open from now on. */
  opened(client: Client): void;
  failed(client: Client, error: Error): void;
  ended(client: Client): void;
}

/** A pool of our own, with the settings of the application's. */
export function ownPool(
  original: ApplicationPool,
  max: number,
  timeout: number,
  observer: ClientObserver,
): Pool {
  const { options } = original;
  const TrackedClient = class extends original.Client {
    constructor(config?: PoolConfig) {
      super(config);
      observer.opened(this);
      this.on('error', (error) => observer.failed(this, error)); // the statement under way, or the pool, is told as well
      const stop = limitConnecting(this, timeout);
      this.once('connect', stop);
      this.once('end', () => {
        stop();
        observer.ended(this);
      });
    }
  };
  const Pool = poolClass(original);
  return new Pool({
    ...options,
    password: options.password, // not enumerable in a pool's options
    application_name: `${options.application_name ?? ''} idempotency`.trim(),
    Client: TrackedClient,
    max,
    min: 0,
    connectionTimeoutMillis: 0, // ours looks first whether the process was busy; and nothing waits in the pool's queue
    query_timeout: 0, // ours covers more
    keepAlive: true,
    types: { getTypeParser },
    binary: false,
    pipeline: false,
  });
}

/** pg's own, as one of the application's that extends it may take other options. */
function poolClass(pool: ApplicationPool): new (options: DuplicateConfig) => Pool {
  let found = pool as object;
  for (let at: object | null = pool; at; at = Object.getPrototypeOf(at) as object | null)
    if (Object.hasOwn(at, 'connect')) found = at;
  return found.constructor as new (options: DuplicateConfig) => Pool;
}

/** @returns what ends that */
function limitConnecting(client: Client, timeout: number): () => void {
  const begin = (isLast: boolean): NodeJS.Timeout => {
    const dueAt = performance.now() + timeout;
    return setTimeout(() => {
      if (!isLast && isLate(performance.now() - dueAt, timeout)) timer = begin(true);
      else setImmediate(() => ended || destroySocket(client));
    }, timeout).unref();
  };
  let ended = false;
  let timer = begin(false);
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}

/** Nothing where the client does not show its socket, as pg's native one. */
export function destroySocket(client: Client): void {
  const { connection } = client as { connection?: { stream?: { destroy(): void } } };
  connection?.stream?.destroy();
}
