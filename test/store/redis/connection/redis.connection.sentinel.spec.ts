import { Logger } from '@nestjs/common';
import Redis from 'ioredis';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { RedisConnection } from '../../../../lib/store/redis/connection/redis.connection';
import { RedisStore } from '../../../../lib/store/redis/redis.store';
import { startRedis, type RunningRedis } from '../../../../servers';
import { until } from '../../../support/eventually';
import { claimRequest } from '../../../support/redis-store';

let redis: RunningRedis;
let sentinel: Server;
let sentinelPort: number;

beforeAll(async () => {
  redis = await startRedis();
  sentinel = sentinelFor(redis.port);
  sentinelPort = await listen(sentinel, 0);
  jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
  jest.spyOn(Logger.prototype, 'log').mockImplementation(() => undefined);
});
afterAll(async () => {
  sentinel.close();
  await redis.stop();
  jest.restoreAllMocks();
});

describe('behind Sentinel', () => {
  it('a Redis that ioredis has given up for good is used again when it can be found', async () => {
    const before = timers();
    await new Promise((resolve) => sentinel.close(resolve));
    const application = new Redis({
      sentinels: [{ host: '127.0.0.1', port: sentinelPort }],
      name: 'main',
      sentinelRetryStrategy: () => null,
      lazyConnect: true,
    });
    const connection = new RedisConnection(application, { timeout: 2_000 });
    await connection.open();
    expect(connection.available).toBe(false);
    await listen(sentinel, sentinelPort);
    await until(() => connection.available, 'the master is used');
    await connection.ping();
    await connection.close();
    application.disconnect();
    // ioredis leaves one behind for 2 s. The wait itself has one, too.
    await until(() => timers() <= before + 1, 'the timers are gone');
  });

  it('the master is used', async () => {
    const application = new Redis({
      sentinels: [{ host: '127.0.0.1', port: sentinelPort }],
      name: 'main',
      lazyConnect: true,
    });
    const connection = new RedisConnection(application, { timeout: 2_000 });
    await connection.open();
    const store = new RedisStore({ connection, keyPrefix: 'idempotency:', ttl: 60_000 });
    expect(await store.claim(claimRequest())).toMatchObject({ claimed: true });
    await connection.close();
    application.disconnect();
  });

  it('a Sentinel that is frozen is passed over', async () => {
    const sockets = new Set<Socket>();
    const frozen = createServer((socket) => sockets.add(socket.on('error', () => undefined)));
    const application = new Redis({
      sentinels: [
        { host: '127.0.0.1', port: await listen(frozen, 0) },
        { host: '127.0.0.1', port: sentinelPort },
      ],
      name: 'main',
      lazyConnect: true,
    });
    const connection = new RedisConnection(application, { timeout: 2_000 });
    await connection.open();
    await until(() => connection.available, 'the master is used');
    await connection.close();
    application.disconnect();
    for (const socket of sockets) socket.destroy();
    frozen.close();
  });
});

/** As much of a Sentinel as ioredis asks for. */
function sentinelFor(masterPort: number): Server {
  const port = String(masterPort);
  const master = `*2\r\n$9\r\n127.0.0.1\r\n$${port.length}\r\n${port}\r\n`;
  return createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (data) => {
      for (const command of data
        .toString()
        .split(/^\*\d+\r\n/m)
        .slice(1)) {
        if (command.includes('get-master-addr-by-name')) socket.write(master);
        else if (command.includes('sentinels')) socket.write('*0\r\n');
        else if (command.includes('info')) socket.write('$0\r\n\r\n');
        else socket.write('+OK\r\n');
      }
    });
  });
}

function timers(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
  });
}
