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
  if (!isCluster && sentinel === undefined) {
    const lazy = { ...options, lazyConnect: true };
    return urls[0].startsWith('unix:')
      ? new Client({ ...socketIn(urls[0]), ...lazy })
      : new Client(urls[0], lazy);
  }
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
  return new Client({
    ...shared,
    lazyConnect: true,
    sentinels: servers.map((server) => addressOf(server, SENTINEL_PORT)),
    name: sentinel,
    ...(sentinelPassword === undefined ? {} : { sentinelPassword }),
    ...(shared.tls && { sentinelTLS: shared.tls, enableTLSForSentinelMode: true }),
    ...(options.retryStrategy && { sentinelRetryStrategy: () => null }),
  });
}

/** User, password, database and TLS, as the first URL has them: all servers have the same. */
function sharedBy([server]: readonly URL[]): RedisOptions {
  if (!server) return {};
  const database = Number(server.pathname.slice(1));
  return {
    ...userIn(server),
    ...(database > 0 && { db: database }),
    ...(server.protocol === 'rediss:' && { tls: {} }),
  };
}

/** ioredis reads no user and no password where a URL names a socket. */
function socketIn(url: string): RedisOptions {
  const server = new URL(withHost(url));
  const { pathname, searchParams } = server;
  return {
    path: decodeURIComponent(pathname),
    ...userIn(server),
    db: Number(searchParams.get('db')),
  };
}

function userIn({ username, password }: URL): Pick<RedisOptions, 'username' | 'password'> {
  return {
    ...(username && { username: decodeURIComponent(username) }),
    ...(password && { password: decodeURIComponent(password) }),
  };
}

/** URLs of Unix sockets have a user without a host. */
export function withHost(url: string): string {
  return url.replace('@/', '@localhost/');
}

function addressOf({ hostname, port }: URL, usual: number): { readonly host: string; readonly port: number } {
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || usual) };
}
