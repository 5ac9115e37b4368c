import { Logger } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { Cluster } from 'ioredis';
import { StoreUnavailableError } from '../../../../lib/core/errors';
import { RedisConnection } from '../../../../lib/store/redis/connection/redis.connection';
import { RedisStore } from '../../../../lib/store/redis/redis.store';
import { startRedisCluster, type RunningRedis } from '../../../../servers';
import { storeContract } from '../../../../lib/testing';
import { until } from '../../../support/eventually';
import { claimRequest, newClaim, rejection, response } from '../../../support/redis-store';

const TIMEOUT = 600;
/** Room for a busy machine; what is bounded here took for ever, or seconds, before. */
const ROOM = 1_500;

let nodes: RunningRedis[];
let application: Cluster;

beforeAll(async () => {
  nodes = await startRedisCluster();
  application = new Cluster(nodes.map(({ port }) => ({ host: '127.0.0.1', port })));
  application.on('error', () => undefined);
});
afterAll(async () => {
  application.disconnect();
  await Promise.all(nodes.map((node) => node.stop()));
});

describe('Redis Cluster', () => {
  storeContract({ describe, it, expect, beforeAll, afterAll }, async ({ retention }) => {
    const keyPrefix = `${randomUUID()}:`;
    const connections: RedisConnection[] = [];
    const open = async (): Promise<RedisStore> => {
      const connection = new RedisConnection(application, { timeout: 5_000 });
      connections.push(connection);
      await connection.open();
      await until(() => connection.available, 'the cluster is used');
      return new RedisStore({ connection, keyPrefix, ttl: retention });
    };
    return {
      store: await open(),
      another: await open(),
      close: async () => {
        await Promise.all(connections.map((connection) => connection.close()));
      },
    };
  });
});

describe('a Redis Cluster', () => {
  let connection: RedisConnection;
  let store: RedisStore;
  beforeEach(async () => {
    for (const level of ['warn', 'log'] as const)
      jest.spyOn(Logger.prototype, level).mockImplementation(() => undefined);
    ({ connection, store } = await connect(TIMEOUT));
  });
  afterEach(async () => {
    await connection.close();
    jest.restoreAllMocks();
  });

  it('takes records of every node’s slots at once', async () => {
    await connection.close();
    ({ connection, store } = await connect(10_000));
    const claims = Array.from({ length: 200 }, () => newClaim());
    await Promise.all(
      claims.map((claim) =>
        store.put({ claim, state: 'completed', outcome: response(), pending: false, ttl: 60_000 }),
      ),
    );
    const found = await Promise.all(claims.map((claim) => store.find(claim.id)));
    expect(found.map((record) => record?.token)).toEqual(claims.map((claim) => claim.token));
    const keysOfNodes = await Promise.all(application.nodes('master').map((node) => node.dbsize()));
    expect(keysOfNodes.filter((keys) => keys > 0)).toHaveLength(nodes.length);
  });

  it('lets no operation wait for a frozen node, and serves the slots of the others', async () => {
    const [frozen] = nodes as [RunningRedis];
    frozen.kill('SIGSTOP');
    try {
      const results = await Promise.all(
        Array.from({ length: 30 }, async () => {
          const startedAt = performance.now();
          const error = await store.claim(claimRequest()).then(
            () => undefined,
            (reason: unknown) => reason,
          );
          return { error, after: performance.now() - startedAt };
        }),
      );
      for (const { error, after } of results) {
        expect(after).toBeLessThan(TIMEOUT + ROOM);
        if (error) expect(error).toBeInstanceOf(StoreUnavailableError);
      }
      expect(results.some(({ error }) => error === undefined)).toBe(true);
      expect(results.some(({ error }) => error !== undefined)).toBe(true);
    } finally {
      frozen.kill('SIGCONT');
    }
    await until(async () => {
      const all = await Promise.all(
        Array.from({ length: 30 }, () =>
          store.claim(claimRequest()).then(
            () => true,
            () => false,
          ),
        ),
      );
      return all.every(Boolean);
    }, 'every slot is served again');
  });

  it('is bypassed when it is frozen as a whole, and used again when it goes on', async () => {
    for (const node of nodes) node.kill('SIGSTOP');
    try {
      const operations = Array.from({ length: 10 }, () => rejection(store.find(newClaim().id)));
      for (const { after } of await Promise.all(operations)) expect(after).toBeLessThan(TIMEOUT + ROOM);
      await until(() => !store.available, 'the cluster is bypassed');
    } finally {
      for (const node of nodes) node.kill('SIGCONT');
    }
    await until(() => store.available, 'the cluster is used again');
    await store.find(newClaim().id);
  });

  it('can be closed, and does not hold a start up, while it is frozen', async () => {
    for (const node of nodes) node.kill('SIGSTOP');
    try {
      const startedAt = performance.now();
      await connection.close();
      expect(performance.now() - startedAt).toBeLessThan(ROOM);
      connection = new RedisConnection(application, { timeout: TIMEOUT });
      await connection.open();
      expect(performance.now() - startedAt).toBeLessThan(3_000);
      expect(connection.available).toBe(false);
    } finally {
      for (const node of nodes) node.kill('SIGCONT');
    }
    await until(() => connection.available, 'the cluster is used');
  });
});

async function connect(timeout: number): Promise<{ connection: RedisConnection; store: RedisStore }> {
  const connection = new RedisConnection(application, { timeout });
  await connection.open();
  await until(() => connection.available, 'the cluster is used');
  return { connection, store: new RedisStore({ connection, keyPrefix: 'idempotency:', ttl: 60_000 }) };
}
