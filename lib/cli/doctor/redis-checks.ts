import { randomUUID } from 'node:crypto';
import type { Cluster, Redis } from 'ioredis';
import { Digest } from '../../core/digest';
import { runScript } from '../../store/redis/evaluate';
import { markKeyOf } from '../../store/redis/key-space';
import { PUT } from '../../store/redis/scripts';
import type { Place } from '../settings';
import { redisClient } from '../redis-client';
import { findings, type Finding } from './finding';

/** Milliseconds. */
const TIMEOUT = 2_000;

export async function checkRedis(place: Place): Promise<Finding[]> {
  if (!place.redis)
    return [{ check: 'redis', level: 'skipped', problem: 'the application uses none (--no-redis)' }];
  const client = redisClient(place.redis, {
    connectTimeout: TIMEOUT,
    commandTimeout: TIMEOUT,
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
  });
  let reason: unknown;
  client.on('error', (error: unknown) => (reason ??= error));
  try {
    await client.connect();
    await client.ping();
  } catch (error) {
    client.disconnect();
    return findings('redis', [
      'error',
      `it cannot be used: ${messageOf(reason ?? error)}`,
      'Check REDIS_URL (host, port, user, password; rediss:// for TLS), and that the server runs. Until then each replay comes from Postgres.',
    ]);
  }
  try {
    return [
      { check: 'redis', level: 'ok' },
      ...(await checkSettings(client)),
      ...(await checkRights(client, place)),
      ...(await checkMark(client, place)),
    ];
  } finally {
    client.disconnect();
  }
}

async function checkSettings(client: Redis | Cluster): Promise<Finding[]> {
  const info = await client.info().catch(() => '');
  const value = (name: string): string | undefined => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1];
  const policy = value('maxmemory_policy');
  const limited = Number(value('maxmemory') ?? 0) > 0;
  return [
    ...findings(
      'redis role',
      value('role') === 'slave' && [
        'error',
        'it is a replica, which accepts no writes',
        'Point REDIS_URL at the master, or at the address that follows it.',
      ],
    ),
    ...findings(
      'redis policy',
      limited &&
        policy === 'noeviction' && [
          'warning',
          'maxmemory-policy is noeviction: once Redis is full it takes no copies, and each replay comes from Postgres',
          'Set maxmemory-policy to volatile-ttl or allkeys-lru: an evicted copy is read from Postgres again.',
        ],
    ),
  ];
}

/** Does what the module does, on a separate key. */
async function checkRights(client: Redis | Cluster, { settings }: Place): Promise<Finding[]> {
  const { keyPrefix } = settings.redis || { keyPrefix: '' };
  const key = `${keyPrefix}doctor:${randomUUID()}`;
  const tries: Readonly<Record<string, () => Promise<unknown>>> = {
    'eval, evalsha': () => runScript(client, PUT, [key], ['0 3 1 1 0 1000', '']),
    mget: () => client.mget(key),
    get: () => client.get(key),
    set: () => client.set(key, '', 'PX', 1),
    time: () => client.time(),
    info: () => client.info('server'),
  };
  const refused: string[] = [];
  for (const [name, attempt] of Object.entries(tries)) {
    try {
      await attempt();
    } catch (error) {
      refused.push(`${name} (${messageOf(error)})`);
    }
  }
  return findings(
    'redis rights',
    refused.length > 0 && [
      'error',
      `commands are refused: ${refused.join(', ')}`,
      `ACL SETUSER <user> ~${keyPrefix}* +get +mget +set +getrange +pttl +time +ping +eval +evalsha +info`,
    ],
  );
}

async function checkMark(client: Redis | Cluster, { settings }: Place): Promise<Finding[]> {
  const { keyPrefix } = settings.redis || { keyPrefix: '' };
  const mark = await client.get(markKeyOf({ keyPrefix, digest: new Digest(settings) })).catch(() => null);
  return findings(
    'redis copies',
    mark === null && [
      'warning',
      'no application has left its mark here: it uses another Redis, prefix or namespace, or this Redis was emptied',
      "Give the application's REDIS_URL, --key-prefix and --namespace. Otherwise what is deleted here is replayed there.",
    ],
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error);
}
