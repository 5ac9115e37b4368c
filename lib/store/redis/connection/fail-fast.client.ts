import type { Cluster, ClusterOptions, Redis, RedisOptions } from 'ioredis';

export type RedisClient = Redis | Cluster;

/** Milliseconds until an attempt to connect is given up. */
const CONNECT_TIMEOUT = 1_000;
/** Milliseconds that a closing connection is given to end in an orderly way. */
export const DISCONNECT_TIMEOUT = 100;
/** Milliseconds without an answer after which a cluster node's connection is given up. */
const NODE_SOCKET_TIMEOUT = 1_000;

/**
 * A connection of our own to where the application's client is connected, that fails fast instead of waiting.
 * It connects only when told to. What each setting does, and why, is in docs/internals/redis-store.md.
 *
 * @param retryDelay milliseconds until the next attempt to connect
 */
export function failFastDuplicate(
  application: RedisClient,
  timeout: number,
  retryDelay: () => number,
): RedisClient {
  const connection: Partial<RedisOptions> = {
    commandTimeout: 2 * timeout,
    connectTimeout: CONNECT_TIMEOUT,
    disconnectTimeout: DISCONNECT_TIMEOUT,
    sentinelCommandTimeout: CONNECT_TIMEOUT,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    enableReadyCheck: true,
    reconnectOnError: (error) => error.message.startsWith('READONLY'),
    // What the application may have set for itself, and what we could not work with.
    readOnly: false,
    stringNumbers: false,
    showFriendlyErrorStack: false,
  };
  if (isCluster(application)) {
    const options: ClusterOptions = {
      redisOptions: {
        ...application.options.redisOptions,
        ...connection,
        socketTimeout: NODE_SOCKET_TIMEOUT,
      },
      enableOfflineQueue: false,
      enableReadyCheck: true,
      scaleReads: 'master',
      enableAutoPipelining: true,
      // Below 5.11, ioredis takes a script's hash for its key and pipelines it to the wrong node.
      autoPipeliningIgnoredCommands: ['eval', 'evalsha'],
      lazyConnect: true,
      clusterRetryStrategy: retryDelay,
    };
    const cluster = application.duplicate([], options);
    // The options of its nodes, which it makes anew whenever one connects.
    followCredentials(cluster.options.redisOptions ?? {}, () => application.options.redisOptions);
    return cluster;
  }
  const single = application.duplicate({
    ...connection,
    // Its timer outlives the connection and ends the next, healthy one; the breaker gives dead connections up instead.
    socketTimeout: undefined,
    enableAutoPipelining: false, // commands that meet go together anyway: see WriteCoalescer
    lazyConnect: true,
    retryStrategy: retryDelay,
  });
  followCredentials(single.options, () => application.options);
  limitOnlyUntilReady(single, 2 * timeout);
  return single;
}

/**
 * While ioredis connects, it asks Redis on its own behalf. From then on our limit holds, which looks first whether the
 * answer is there but unread: ioredis' would fail the commands of a process that was busy for longer than it.
 */
function limitOnlyUntilReady(client: Redis, commandTimeout: number): void {
  const limit = (): number | undefined => (client.status === 'ready' ? undefined : commandTimeout);
  Object.defineProperty(client.options, 'commandTimeout', {
    get: limit,
    enumerable: true,
    configurable: true,
  });
}

const CREDENTIALS = ['username', 'password', 'sentinelUsername', 'sentinelPassword'] as const;

/** ioredis reads them at each attempt to connect; by then an application may have renewed its own. */
function followCredentials(ours: object, theirs: () => Partial<RedisOptions> | undefined): void {
  for (const name of CREDENTIALS)
    Object.defineProperty(ours, name, { get: () => theirs()?.[name], enumerable: true, configurable: true });
}

/** Not `instanceof`: the application may have another copy of ioredis than we do. */
export function isCluster(client: RedisClient): client is Cluster {
  return client.isCluster;
}
