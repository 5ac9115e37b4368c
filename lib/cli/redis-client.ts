import type { Cluster, Redis, RedisOptions } from 'ioredis';
import { loadNeeded } from '../core/optional-package';

/** How Redis is reached. */
export interface RedisPlace {
  /** Of Redis itself, of nodes of its cluster, or of its Sentinels. */
  readonly urls: readonly [string, ...string[]];
  readonly isCluster: boolean;
  /** The name by which the Sentinels know the primary; undefined without Sentinels. */
  readonly sentinel: string | undefined;
  /** That the Sentinels themselves ask for. */
  readonly sentinelPassword: string | undefined;
}

const SENTINEL_PORT = 26_379;

/** A client that is not connected yet. */
export function redisClient(place: RedisPlace, options: RedisOptions = {}): Redis | Cluster {
  const { Redis: Client, Cluster: Nodes } = loadNeeded(
    () => require('ioredis') as typeof import('ioredis'),
    'The command reaches Redis with it: run `npm install ioredis`, or pass --no-redis if the application uses none.',
  );
  const { urls, isCluster, sentinel, sentinelPassword } = place;
  const servers = urls.map((url) => new URL(url));
  const shared = { ...sharedBy(servers), ...options };
  if (isCluster)
    return new Nodes(
      servers.map((server) => addressOf(server, 6_379)),
      {
        lazyConnect: true,
        redisOptions: shared,
        ...(options.retryStrategy && { clusterRetryStrategy: () => null }),
      },
    );
  if (sentinel !== undefined)
    return new Client({
      ...shared,
      lazyConnect: true,
      sentinels: servers.map((server) => addressOf(server, SENTINEL_PORT)),
      name: sentinel,
      ...(sentinelPassword === undefined ? {} : { sentinelPassword }),
      ...(shared.tls && { sentinelTLS: shared.tls, enableTLSForSentinelMode: true }),
      ...(options.retryStrategy && { sentinelRetryStrategy: () => null }),
    });
  return new Client(urls[0], { ...options, lazyConnect: true });
}

/** User, password, database and TLS, as the first URL has them: all servers have the same. */
function sharedBy([server]: readonly URL[]): RedisOptions {
  if (!server) return {};
  const { username, password, pathname, protocol } = server;
  const database = Number(pathname.slice(1));
  return {
    ...(username && { username: decodeURIComponent(username) }),
    ...(password && { password: decodeURIComponent(password) }),
    ...(database > 0 && { db: database }),
    ...(protocol === 'rediss:' && { tls: {} }),
  };
}

function addressOf({ hostname, port }: URL, usual: number): { readonly host: string; readonly port: number } {
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || usual) };
}
