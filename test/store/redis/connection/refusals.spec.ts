import { Logger } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import { Cluster, Redis, type RedisOptions } from 'ioredis';
import { RedisConnection } from '../../../../lib/store/redis/connection/redis.connection';
import { RedisStore } from '../../../../lib/store/redis/redis.store';
import { refusalOf } from '../../../../lib/store/redis/connection/refusals';
import { startRedis, startRedisCluster, type RunningRedis } from '../../../../servers';
import { until } from '../../../support/eventually';
import { claimRequest, newClaim, rejection, response } from '../../../support/redis-store';

const DOC = readFileSync(join(__dirname, '../../../../docs/operate/redis.md'), 'utf8');
/** What the documented line allows, with what it says beside it for other set-ups. */
const RULES = /^ACL SETUSER \S+ (.*)$/m.exec(DOC)?.[1]?.split(' ') ?? [];
const MORE = { db: '+select', cluster: '+cluster' };

let lines: string[];
const opened: { disconnect(): void }[] = [];
const connections: RedisConnection[] = [];

beforeEach(() => {
  lines = [];
  const keep = (...said: unknown[]): void => void lines.push(String(said[0]));
  for (const level of ['warn', 'log', 'error'] as const)
    jest.spyOn(Logger.prototype, level).mockImplementation(keep);
});
afterEach(async () => {
  await Promise.all(connections.splice(0).map((connection) => connection.close()));
  for (const client of opened.splice(0)) client.disconnect();
  jest.restoreAllMocks();
});

function client(port: number, options: RedisOptions = {}): Redis {
  const made = new Redis({ port, lazyConnect: true, ...options });
  made.on('error', () => undefined);
  opened.push(made);
  return made;
}

async function open(
  application: Redis | Cluster,
): Promise<{ connection: RedisConnection; store: RedisStore }> {
  const connection = new RedisConnection(application, { timeout: 10_000 });
  connections.push(connection);
  await connection.open();
  return { connection, store: new RedisStore({ connection, keyPrefix: 'idempotency:', ttl: 60_000 }) };
}

/** Every verb, in both roles. */
async function everyVerb(store: RedisStore, connection: RedisConnection): Promise<void> {
  for (let round = 0; round < 2; round++) {
    const request = claimRequest();
    const result = await store.claim(request);
    if (!result.claimed) throw new Error('not claimed');
    await store.find(request.id);
    await store.renew([result.claim], 30_000);
    await store.complete(result.claim, response());
    await store.find(request.id);
    await store.forget(result.claim);
    const other = await store.claim(claimRequest());
    if (other.claimed) await store.release(other.claim);
    const orphan = claimRequest({ lease: 1 });
    await store.claim(orphan);
    await until(async () => {
      const taken = await store.claim({ ...orphan, token: randomUUID(), takeOver: true, lease: 30_000 });
      if (taken.claimed) await store.release({ ...taken.claim, fence: 0 }); // leaves an orphan one
      return taken.claimed;
    }, 'the orphan is taken over');
    for (const entry of [
      { state: 'in_progress', lease: 30_000 },
      { state: 'completed', outcome: response(), pending: true, ttl: 30_000 },
      { state: 'removed' },
    ] as const)
      await store.put({ claim: newClaim(), ...entry });
    await connection.ping();
  }
}

const refusals = (): string[] => lines.filter((line) => line.includes('refused'));

describe('a Redis that refuses', () => {
  let redis: RunningRedis;
  let admin: Redis;
  beforeEach(async () => {
    redis = await startRedis();
    admin = client(redis.port);
  });
  afterEach(() => redis.stop());

  const asUser = (options: RedisOptions = {}): Redis =>
    client(redis.port, { username: 'limited', password: 'secret', ...options });

  it('writes, as it is full: is logged once, with its reason and nothing of the record', async () => {
    const { store } = await open(admin);
    await admin.config('SET', 'maxmemory', '1');
    const claim = newClaim();
    for (let round = 0; round < 20; round++) {
      await rejection(
        store.put({
          claim,
          state: 'completed',
          outcome: response('secret'),
          pending: false,
          ttl: 9_000,
        }),
      );
    }
    expect(refusals()).toEqual([expect.stringMatching(/^Redis refused put: OOM command not allowed/)]);
    expect(lines.join()).not.toMatch(new RegExp(`secret|${claim.id.hash}|${claim.token}`));
    expect(store.available).toBe(true);
  });

  it('a command by its ACL: is logged once', async () => {
    await admin.acl('SETUSER', 'limited', 'on', '>secret', '~*', '+@all', '-mget');
    const { store } = await open(asUser());
    for (let round = 0; round < 20; round++) await rejection(store.find(newClaim().id));
    expect(refusals()).toEqual([expect.stringMatching(/NOPERM.*mget/)]);
  });

  it('even a probe: is logged once, and is not asked without end', async () => {
    await admin.acl('SETUSER', 'limited', 'on', '>secret', '~*', '+@all', '-time');
    const { store } = await open(asUser());
    expect(store.available).toBe(false);
    expect(refusals()).toEqual([expect.stringMatching(/^Redis refused a probe: NOPERM.*time/)]);
    const asked = (await admin.acl('LOG')) as unknown[];
    expect(asked.length).toBeLessThan(5);
    await admin.acl('SETUSER', 'limited', '+time');
    await until(() => store.available, 'Redis is used');
  });

  it('scripts, as EVAL and EVALSHA are renamed: is logged once, without the arguments that it quotes', async () => {
    await redis.stop();
    redis = await startRedis({ args: ['--rename-command', 'EVAL', '', '--rename-command', 'EVALSHA', ''] });
    const { store } = await open(client(redis.port));
    const request = claimRequest();
    for (let round = 0; round < 5; round++) await rejection(store.claim(request));
    expect(refusals()).toEqual([
      expect.stringMatching(/^Redis refused claim: ERR unknown command 'evalsha'$/i),
    ]);
    expect(lines.join()).not.toContain(request.id.hash);
  });

  it.each<[string, RedisOptions, RegExp]>([
    ['a wrong password', { username: 'limited', password: 'wrong' }, /WRONGPASS/],
    ['no password', {}, /NOAUTH/],
  ])(
    'the connection, for %s: is logged once at start, however often it is tried',
    async (_, options, reason) => {
      await admin.acl('SETUSER', 'limited', 'on', '>secret', '~*', '+@all');
      await admin.acl('SETUSER', 'default', 'off');
      const tries = jest.fn();
      const application = client(redis.port, options);
      const { connection } = await open(application);
      const own = (connection as unknown as { client: Redis }).client;
      own.on('connect', tries);
      await until(
        () => tries.mock.calls.length >= 3 || own.listenerCount('error') === 0,
        'it was tried again',
      );
      expect(refusals()).toEqual([expect.stringMatching(reason)]);
      expect(refusals().join()).toMatch(/^Redis refused the connection: /);
    },
  );

  it('a handshake, as it has no certificate: is logged once at start', async () => {
    const server = createServer({}).on('tlsClientError', () => undefined);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { connection } = await open(client((server.address() as AddressInfo).port, { tls: {} }));
    const closed = jest.fn();
    (connection as unknown as { client: Redis }).client.on('close', closed);
    try {
      await until(() => closed.mock.calls.length >= 2, 'it was tried again, twice');
      const refusal = expect.stringMatching(/^Redis refused the connection: ERR_SSL_.*HANDSHAKE/) as unknown;
      expect(refusals()).toEqual([refusal]);
    } finally {
      server.close();
    }
  });

  it('writes, as it is a replica: is logged with that reason', async () => {
    const { store } = await open(admin);
    await admin.replicaof('127.0.0.1', 1);
    await rejection(store.claim(claimRequest()));
    expect(refusals()).toEqual([expect.stringContaining('READONLY')]);
  });

  it('renews its password: the next connection uses what the application has by then', async () => {
    await admin.acl('SETUSER', 'limited', 'on', '>secret', '~*', '+@all');
    const application = asUser();
    const { store } = await open(application);
    expect(store.available).toBe(true);
    await admin.acl('SETUSER', 'limited', 'resetpass', '>renewed');
    await admin.client('KILL', 'USER', 'limited');
    await until(() => refusals().length > 0, 'the old password is refused');
    expect(store.available).toBe(false);
    application.options.password = 'renewed';
    await until(() => store.available, 'Redis is used again');
    await store.claim(claimRequest());
  });

  it('renews user and password', async () => {
    await admin.acl('SETUSER', 'limited', 'on', '>secret', '~*', '+@all');
    await admin.acl('SETUSER', 'next', 'on', '>other', '~*', '+@all');
    const application = asUser();
    const { store } = await open(application);
    Object.assign(application.options, { username: 'next', password: 'other' });
    await admin.acl('DELUSER', 'limited');
    await until(() => !store.available, 'Redis is bypassed');
    await until(() => store.available, 'Redis is used again');
  });

  it.each([0, 3])('runs every verb under the ACL of docs/operate/redis.md (db %s)', async (db) => {
    expect(RULES).toContain('~idempotency:*');
    await admin.acl('SETUSER', 'limited', 'reset', 'on', '>secret', ...RULES, ...(db ? [MORE.db] : []));
    const { store, connection } = await open(asUser({ db }));
    await everyVerb(store, connection);
    await admin.script('FLUSH');
    await everyVerb(store, connection);
    const denied = ((await admin.acl('LOG')) as unknown[][]).map((entry) => entry[5]);
    expect(denied.filter((command) => !String(command).startsWith('client'))).toEqual([]);
    expect(refusals()).toEqual([]);
    for (const rule of [MORE.db, MORE.cluster]) expect(DOC).toContain(`\`${rule}\``);
  });
});

describe('a Redis Cluster that refuses', () => {
  let nodes: RunningRedis[];
  beforeAll(async () => {
    nodes = await startRedisCluster();
  });
  afterAll(() => Promise.all(nodes.map((node) => node.stop())));

  const onEach = (...rules: string[]): Promise<unknown> =>
    Promise.all(nodes.map(({ port }) => client(port).acl('SETUSER', 'limited', ...rules)));
  const cluster = (): Cluster => {
    const made = new Cluster(
      nodes.map(({ port }) => ({ host: '127.0.0.1', port })),
      { lazyConnect: true, redisOptions: { username: 'limited', password: 'secret' } },
    );
    made.on('error', () => undefined);
    opened.push(made);
    return made;
  };

  it('runs every verb under the ACL of docs/operate/redis.md', async () => {
    await onEach('reset', 'on', '>secret', ...RULES, MORE.cluster);
    const { store, connection } = await open(cluster());
    await until(() => store.available, 'the cluster is used');
    await everyVerb(store, connection);
    expect(refusals()).toEqual([]);
  });

  it('says why it refuses the connection, and gets the renewed password', async () => {
    await onEach('reset', 'on', '>renewed', '~*', '+@all');
    const application = cluster();
    const { store } = await open(application);
    await until(() => refusals().length > 0, 'the password is refused');
    expect(refusals()).toEqual([expect.stringMatching(/^Redis refused the connection: WRONGPASS/)]);
    application.options.redisOptions!.password = 'renewed';
    await until(() => store.available, 'the cluster is used');
  });
});

describe('a reason', () => {
  const tls = (code: string): Error => Object.assign(new Error('self-signed certificate'), { code });

  it.each([
    'DEPTH_ZERO_SELF_SIGNED_CERT',
    'SELF_SIGNED_CERT_IN_CHAIN',
    'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    'CERT_HAS_EXPIRED',
    'ERR_TLS_CERT_ALTNAME_INVALID',
  ])('is given for a certificate that is refused: %s', (code) => {
    expect(refusalOf(tls(code))).toContain(code);
  });

  it.each(['ECONNREFUSED', 'ECONNRESET', 'ETIMEDOUT', 'ENOTFOUND'])(
    'is none for a network that is gone: %s',
    (code) => {
      expect(refusalOf(tls(code))).toBeUndefined();
    },
  );
});
