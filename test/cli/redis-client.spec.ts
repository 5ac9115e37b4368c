import { RedisModule } from '@nestjs-modules/ioredis';
import type { DynamicModule } from '@nestjs/common';
import { Redis } from 'ioredis';
import { randomUUID } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { IdempotencyAdmin } from '../../lib';
import { redisClient } from '../../lib/cli/redis-client';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { startRedisCluster } from '../../servers/redis-cluster';
import { startRedisSentinels, type RunningSentinels } from '../../servers/redis-sentinel';
import { startApp, type TestApp } from '../support/app';
import { cli, type CliResult } from '../support/cli';
import { eventually } from '../support/eventually';

/** Each command is a process that loads the module. */
jest.setTimeout(180_000);

describe('the command line reaches the copies of records', () => {
  let postgres: RunningPostgres;
  let cluster: RunningRedis[] = [];
  let sentinels: RunningSentinels;
  let app: TestApp | undefined;
  beforeAll(async () => {
    [postgres, cluster, sentinels] = await Promise.all([
      startPostgres(),
      startRedisCluster(),
      startRedisSentinels(),
    ]);
  });
  afterAll(() => Promise.all([postgres.stop(), sentinels.stop(), ...cluster.map((node) => node.stop())]));
  afterEach(() => app?.close());

  const addressesOf = (servers: readonly RunningRedis[]): { host: string; port: number }[] =>
    servers.map(({ port }) => ({ host: '127.0.0.1', port }));
  const urlsOf = (servers: readonly RunningRedis[]): string => servers.map(({ url }) => url).join(',');
  const lazy = { lazyConnect: true };

  it.each<[string, () => DynamicModule, () => { env: NodeJS.ProcessEnv; args: string[] }]>([
    [
      'in a cluster',
      () => RedisModule.forRoot({ type: 'cluster', nodes: addressesOf(cluster), options: lazy }),
      () => ({ env: { REDIS_URL: urlsOf(cluster.slice(0, 2)) }, args: ['--redis-cluster'] }),
    ],
    [
      'behind Sentinels',
      () =>
        RedisModule.forRoot({
          type: 'single',
          options: { ...lazy, sentinels: addressesOf(sentinels.sentinels), name: sentinels.name },
        }),
      () => ({
        env: { REDIS_URL: urlsOf(sentinels.sentinels), IDEMPOTENCY_REDIS_SENTINEL: sentinels.name },
        args: [],
      }),
    ],
  ])('%s', async (_, redis, place) => {
    const databaseUrl = await postgres.createDatabase();
    app = await startApp({ databaseUrl, imports: [redis()], options: { redis: {} } });
    const keys = Array.from({ length: 5 }, () => randomUUID());
    for (const key of keys) await app.service.execute(key, () => 'done');
    const { env, args } = place();
    const run = (...words: string[]): Promise<CliResult> =>
      cli([...words, ...args, '--json'], { env: { DATABASE_URL: databaseUrl, ...env } });
    const admin = app.app.get(IdempotencyAdmin);
    for (const key of keys)
      await eventually(async () => expect((await admin.show({ key }))?.copy).toBe('completed'));
    expect((await run('show', keys[0]!, '--scope', 'execute')).json()).toMatchObject({ copy: 'completed' });
    expect((await run('purge', '--scope', 'execute', '--yes', '--reason', 'test')).json()).toMatchObject({
      purged: 5,
      copies: 5,
    });
    const { code, stdout } = await run('doctor');
    expect([code, stdout]).toEqual([
      expect.any(Number),
      expect.not.stringMatching(/"check": "redis[^"]*",\s+"level": "error"/),
    ]);
  });

  it('by a Unix socket', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'socket-'));
    chmodSync(folder, 0o777);
    const path = join(folder, 'redis.sock');
    const redis = await startRedis({ args: ['--unixsocket', path, '--unixsocketperm', '777'] });
    const setUp = new Redis(path);
    try {
      await setUp.acl('SETUSER', 'ops', 'on', '>p@ss', '~*', '+@all');
      const place = { isCluster: false, sentinel: undefined, sentinelPassword: undefined };
      for (const [url, user, db] of [
        [`unix://${path}`, 'default', 0],
        [`unix://ops:p%40ss@${path}?db=3`, 'ops', 3],
      ] as const) {
        const client = redisClient({ ...place, urls: [url] });
        try {
          await client.connect();
          expect(await client.call('CLIENT', 'INFO')).toMatch(new RegExp(`db=${db} .* user=${user} `));
        } finally {
          client.disconnect();
        }
      }
    } finally {
      setUp.disconnect();
      await redis.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it.each([
    ['redis://a:1,redis://b:2', [], 'Pass --redis-cluster'],
    ['redis://a:1', ['--redis-cluster', '--redis-sentinel', 'main'], 'rule each other out'],
    ['redis://a:1,nonsense', ['--redis-cluster'], 'REDIS_URL is not a URL'],
  ])('not by what says too little, or too much: %s %j', async (REDIS_URL, args, message) => {
    const { code, stderr } = await cli(['stats', ...args], {
      env: { DATABASE_URL: postgres.url, REDIS_URL },
    });
    expect([code, stderr]).toEqual([2, expect.stringContaining(message)]);
  });

  it('has user, password, database and TLS of the first URL for all servers', () => {
    const urls = ['rediss://app:p%40ss@one:7000/3', 'redis://two'] as const;
    const access = { username: 'app', password: 'p@ss', tls: {} };
    const sentinel = redisClient({
      urls,
      isCluster: false,
      sentinel: 'main',
      sentinelPassword: 'other',
    });
    expect(sentinel.options).toMatchObject({
      ...access,
      db: 3,
      name: 'main',
      sentinels: [
        { host: 'one', port: 7_000 },
        { host: 'two', port: 26_379 },
      ],
      sentinelPassword: 'other',
      sentinelTLS: {},
      enableTLSForSentinelMode: true,
    });
    const nodes = redisClient({
      urls,
      isCluster: true,
      sentinel: undefined,
      sentinelPassword: undefined,
    });
    expect(nodes.options).toMatchObject({ redisOptions: access });
    for (const client of [sentinel, nodes]) client.disconnect();
  });
});
