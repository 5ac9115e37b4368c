import { Logger } from '@nestjs/common';
import Redis from 'ioredis';
import { StoreUnavailableError } from '../../../../lib/core/errors';
import { RedisConnection } from '../../../../lib/store/redis/connection/redis.connection';
import { RedisStore } from '../../../../lib/store/redis/redis.store';
import { startRedis, type RunningRedis } from '../../../../servers';
import { until } from '../../../support/eventually';
import { claimRequest, newClaim, rejection, response } from '../../../support/redis-store';

/** Long enough for what a healthy Redis is asked on a busy machine. */
const TIMEOUT = 600;
/** Room for a busy machine; what is bounded here took for ever, or seconds, before. */
const ROOM = 1_500;
/** For hundreds of operations at once. */
const PATIENT = 10_000;

let redis: RunningRedis;
let application: Redis;
let connection: RedisConnection;
let store: RedisStore;
let changes: boolean[];
const logged = { warn: jest.fn(), log: jest.fn(), error: jest.fn() };
let consoleError: jest.SpyInstance;

beforeEach(async () => {
  for (const level of ['warn', 'log', 'error'] as const) {
    logged[level].mockClear();
    jest.spyOn(Logger.prototype, level).mockImplementation(logged[level]);
  }
  consoleError = jest.spyOn(console, 'error').mockImplementation(() => undefined);
  changes = [];
  redis = await startRedis();
  application = new Redis(redis.url, { lazyConnect: true });
  application.on('error', () => undefined);
  ({ connection, store } = connect());
});
afterEach(async () => {
  await connection.close();
  application.disconnect();
  await redis.stop();
  expect(consoleError).not.toHaveBeenCalled(); // ioredis: "Unhandled error event"
  jest.restoreAllMocks();
});

function connect(timeout = TIMEOUT): { connection: RedisConnection; store: RedisStore } {
  const opened = new RedisConnection(application, {
    timeout,
    onAvailabilityChange: (up) => changes.push(up),
  });
  return {
    connection: opened,
    store: new RedisStore({ connection: opened, keyPrefix: 'idempotency:', ttl: 60_000 }),
  };
}

const back = (): Promise<void> => until(() => store.available, 'Redis is used again');
const bypassed = (): Promise<void> => until(() => !store.available, 'Redis is bypassed');

/** One of each verb, on keys of their own. */
function everyVerb(): Promise<unknown>[] {
  const claim = newClaim();
  return [
    store.find(claim.id),
    store.claim(claimRequest()),
    store.complete(newClaim(), response()),
    store.release(newClaim()),
    store.renew([newClaim(), newClaim()], 30_000),
    store.forget(newClaim()),
    store.put({ claim: newClaim(), state: 'in_progress', lease: 30_000 }),
    connection.ping(),
  ];
}

describe('a process that is busy for longer than the time-out', () => {
  it('reads what Redis has answered meanwhile before it gives up', async () => {
    await connection.open();
    const { id } = newClaim();
    await store.find(id);
    const found = store.find(id);
    await new Promise(setImmediate); // by then it is written
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1.5 * TIMEOUT);
    await expect(found).resolves.toBeUndefined();
    expect(changes).toEqual([true]);
  });
});

describe('a Redis that is frozen', () => {
  beforeEach(async () => {
    await connection.open();
    await Promise.all(everyVerb());
    redis.kill('SIGSTOP');
  });

  it('lets no operation wait for longer than the time-out', async () => {
    const verbs = await Promise.all(everyVerb().map(rejection));
    for (const { error, after } of verbs) {
      expect(error).toBeInstanceOf(StoreUnavailableError);
      expect(after).toBeLessThan(TIMEOUT + ROOM);
    }
  });

  it('nor does an operation that ioredis itself would let wait', async () => {
    redis.kill('SIGCONT');
    const { error } = await rejection(connection.run('test', () => new Promise(() => undefined)));
    expect((error as Error).message).toContain(`no answer within ${TIMEOUT} ms`);
  });

  it('is bypassed after three failures, from then on without a command', async () => {
    for (let failure = 0; failure < 3; failure++) await rejection(store.find(newClaim().id));
    expect(store.available).toBe(false);
    const startedAt = performance.now();
    const refused = await Promise.all(Array.from({ length: 10 }, everyVerb).flat().map(rejection));
    expect(performance.now() - startedAt).toBeLessThan(TIMEOUT);
    for (const { error } of refused) expect((error as Error).message).toContain('bypassed');
  });

  it('is found out by the failure of one operation, without more requests having to wait', async () => {
    await rejection(store.find(newClaim().id));
    await bypassed();
  });

  it('is used again once it goes on, and says so once', async () => {
    await rejection(store.find(newClaim().id));
    await bypassed();
    for (let round = 0; round < 20; round++) await rejection(store.find(newClaim().id));
    redis.kill('SIGCONT');
    await back();
    await Promise.all(everyVerb());
    expect(changes).toEqual([true, false, true]);
    expect(logged.warn).toHaveBeenCalledTimes(1);
    expect(logged.log).toHaveBeenCalledTimes(1);
    expect(logged.error).not.toHaveBeenCalled();
  });

  it('is given a new connection, so that a dead one is not waited for', async () => {
    redis.kill('SIGCONT');
    const before = await serverClients();
    redis.kill('SIGSTOP');
    await rejection(store.find(newClaim().id));
    await bypassed();
    redis.kill('SIGCONT');
    await back();
    const [now, ...others] = await serverClients();
    expect(others).toEqual([]);
    expect(before).not.toContain(now);
  });
});

describe('commands that a frozen Redis executes late', () => {
  const claim = newClaim({ fence: 7 });
  beforeEach(async () => {
    await connection.open();
    await Promise.all(everyVerb()); // every script is known, so that what arrives late can run
  });

  /** Sends commands to a frozen Redis, which runs them after their callers have given up. */
  async function executedLate(send: () => Promise<unknown>[]): Promise<void> {
    const before = await evaluations();
    redis.kill('SIGSTOP');
    const sent = send(); // at once, so that all go out before the first one times out
    const count = sent.length;
    await Promise.all(sent.map(rejection));
    const givenUpAt = performance.now();
    await until(() => performance.now() > givenUpAt + TIMEOUT + 20, 'the time of each command is over');
    redis.kill('SIGCONT');
    await until(async () => (await evaluations()) >= before + count, 'the late commands have been executed');
    await back();
  }

  it('leave no claim behind that no process holds', async () => {
    const request = claimRequest();
    await executedLate(() => [store.claim(request)]);
    expect(await store.find(request.id)).toBeUndefined();
  });

  it('leave no copy behind', async () => {
    await executedLate(() => [
      store.put({ claim, state: 'in_progress', lease: 30_000 }),
      store.put({ claim, state: 'completed', outcome: response(), pending: false, ttl: 30_000 }),
    ]);
    expect(await store.find(claim.id)).toBeUndefined();
  });

  it('bury no newer record', async () => {
    const { id } = claim;
    await executedLate(() => [
      store.put({ claim, state: 'in_progress', lease: 30_000 }),
      store.put({ claim, state: 'removed' }),
      store.forget(claim),
    ]);
    await store.put({ claim, state: 'completed', outcome: response(), pending: false, ttl: 30_000 });
    expect(await store.find(id)).toMatchObject({ state: 'completed', fence: 7 });
  });

  it('delete no record that was there before', async () => {
    const done = newClaim();
    await store.complete(done, response());
    await executedLate(() => [
      store.forget(done),
      store.put({ claim: done, state: 'removed' }),
      store.put({ claim: { ...done, fence: 9 }, state: 'in_progress', lease: 30_000 }),
    ]);
    expect(await store.find(done.id)).toMatchObject({ state: 'completed', token: done.token });
  });

  it('record the outcome of a handler that did run', async () => {
    const result = await store.claim(claimRequest());
    if (!result.claimed) throw new Error('not claimed');
    await executedLate(() => [store.complete(result.claim, response())]);
    expect(await store.find(result.claim.id)).toMatchObject({ state: 'completed', outcome: response() });
  });

  it('give back a claim that its owner gave back', async () => {
    const result = await store.claim(claimRequest());
    if (!result.claimed) throw new Error('not claimed');
    await executedLate(() => [store.release(result.claim)]);
    expect(await store.find(result.claim.id)).toBeUndefined();
  });
});

describe('a Redis that is killed', () => {
  it('is bypassed at once, without waiting for a request to fail', async () => {
    await connection.open();
    redis.kill('SIGKILL');
    await bypassed();
    const { error, after } = await rejection(store.find(newClaim().id));
    expect(error).toBeInstanceOf(StoreUnavailableError);
    expect(after).toBeLessThan(TIMEOUT);
  });

  it('is used again when it comes back empty, and learns its scripts anew', async () => {
    ({ connection, store } = connect(PATIENT));
    await connection.open();
    await Promise.all(everyVerb());
    redis.kill('SIGKILL');
    await bypassed();
    await redis.restart();
    await back();
    await Promise.all(everyVerb());
    await Promise.all(Array.from({ length: 50 }, everyVerb).flat());
    expect(changes).toEqual([true, false, true]);
    expect(logged.warn).toHaveBeenCalledTimes(1);
  });

  it('fails the operations that are under way at once, and repeats none of them', async () => {
    await connection.open();
    redis.kill('SIGSTOP');
    const underWay = rejection(connection.run('test', (client) => client.incr('counter')));
    redis.kill('SIGKILL');
    const restarted = redis.restart();
    expect((await underWay).after).toBeLessThan(TIMEOUT + ROOM);
    await restarted;
    await back();
    await connection.ping();
    expect(await application.get('counter')).toBeNull();
  });

  it('keeps serving when its scripts are flushed', async () => {
    ({ connection, store } = connect(PATIENT));
    await connection.open();
    await Promise.all(everyVerb());
    await application.script('FLUSH');
    await Promise.all(Array.from({ length: 50 }, everyVerb).flat());
    expect(changes).toEqual([true]);
  });
});

describe('a Redis that is not there at start', () => {
  it('does not hold the start up, and is picked up when it comes', async () => {
    redis.kill('SIGKILL');
    const startedAt = performance.now();
    await connection.open();
    expect(performance.now() - startedAt).toBeLessThan(1_000 + ROOM);
    expect(store.available).toBe(false);
    expect(changes).toEqual([false]);
    await redis.restart();
    await back();
    await Promise.all(everyVerb());
    expect(changes).toEqual([false, true]);
    expect(logged.warn).toHaveBeenCalledTimes(1);
  });

  it('nor does one that is frozen at start', async () => {
    redis.kill('SIGSTOP');
    const startedAt = performance.now();
    await connection.open();
    expect(performance.now() - startedAt).toBeLessThan(1_000 + ROOM);
    expect(store.available).toBe(false);
    redis.kill('SIGCONT');
    await back();
    expect(changes).toEqual([false, true]);
  });

  it('is not mentioned in the log when it is there', async () => {
    await connection.open();
    expect(store.available).toBe(true);
    expect(changes).toEqual([true]);
    for (const log of Object.values(logged)) expect(log).not.toHaveBeenCalled();
  });
});

describe('a Redis that answers with errors', () => {
  it('goes on being used if the error is about one command only', async () => {
    await connection.open();
    await application.set('idempotency:text', 'x');
    for (let failure = 0; failure < 5; failure++) {
      await rejection(connection.run('test', (client) => client.lpush('idempotency:text', 'x')));
    }
    expect(store.available).toBe(true);
    expect(changes).toEqual([true]);
  });

  it('shows neither keys nor bodies in the error', async () => {
    await connection.open();
    await application.set('idempotency:text', 'x');
    const { error } = await rejection(
      connection.run('test', (client) => client.lpush('idempotency:text', 'a body')),
    );
    const { cause } = error as Error;
    expect((cause as Error).message).toContain('WRONGTYPE');
    expect(JSON.stringify([error, cause, Object.entries(cause as object)])).not.toContain('a body');
  });

  it('is reconnected to when it has become a replica', async () => {
    await connection.open();
    const before = await serverClients();
    await application.replicaof('127.0.0.1', '1');
    const { error } = await rejection(store.claim(claimRequest()));
    expect((error as Error).message).toContain('READONLY');
    await bypassed();
    await application.replicaof('NO', 'ONE');
    await until(async () => {
      if (!store.available) return false;
      return store.claim(claimRequest()).then(
        () => true,
        () => false,
      );
    }, 'the master is written to');
    expect(await serverClients()).not.toEqual(before);
  });
});

describe('close', () => {
  /** Milliseconds that it took; our sockets and timers must be gone then. */
  async function closed(before: Resources): Promise<void> {
    const startedAt = performance.now();
    await connection.close();
    expect(performance.now() - startedAt).toBeLessThan(ROOM);
    await until(() => fits(resources(), before), 'sockets and timers are gone');
    expect(performance.now() - startedAt).toBeLessThan(ROOM);
    const { error, after } = await rejection(store.find(newClaim().id));
    expect(error).toBeInstanceOf(StoreUnavailableError);
    expect(after).toBeLessThan(TIMEOUT);
  }

  it('leaves nothing behind when Redis serves, and the application’s client alone', async () => {
    await application.connect();
    const before = resources();
    await connection.open();
    await Promise.all(everyVerb());
    await closed(before);
    expect(await application.ping()).toBe('PONG');
  });

  it('nor when Redis is frozen, with operations under way', async () => {
    const before = resources();
    await connection.open();
    redis.kill('SIGSTOP');
    const underWay = everyVerb().map(rejection);
    await closed(before);
    await Promise.all(underWay);
  });

  it('nor when Redis is frozen and bypassed', async () => {
    const before = resources();
    await connection.open();
    redis.kill('SIGSTOP');
    await rejection(store.find(newClaim().id));
    await bypassed();
    await closed(before);
  });

  it('nor when Redis is gone', async () => {
    const before = resources();
    await connection.open();
    redis.kill('SIGKILL');
    await bypassed();
    await closed(before);
  });

  it('nor when Redis was never there', async () => {
    redis.kill('SIGKILL');
    const before = resources();
    await connection.open();
    await closed(before);
  });

  it('nor when it was never opened', async () => {
    await closed(resources());
  });

  it('can be called again, and ends the reports', async () => {
    await connection.open();
    await connection.close();
    await connection.close();
    redis.kill('SIGKILL');
    expect(changes).toEqual([true]);
    expect(logged.warn).not.toHaveBeenCalled();
  });
});

/** Our connections, as Redis sees them. */
async function serverClients(): Promise<string[]> {
  const own = String(await application.client('ID'));
  const list = (await application.client('LIST')) as string;
  return list
    .trim()
    .split('\n')
    .map((line) => /^id=(\d+)/.exec(line)?.[1] ?? '')
    .filter((id) => id !== own);
}

/** How many scripts Redis has run since its start. */
async function evaluations(): Promise<number> {
  const stats = await application.info('commandstats');
  return Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1] ?? 0);
}

interface Resources {
  readonly sockets: number;
  readonly timers: number;
}

function resources(): Resources {
  const all = process.getActiveResourcesInfo();
  const count = (...names: string[]): number => all.filter((name) => names.includes(name)).length;
  return { sockets: count('TCPSocketWrap', 'TCPConnectWrap'), timers: count('Timeout') };
}

function fits(now: Resources, before: Resources): boolean {
  // One timer is that of the wait itself.
  return now.sockets <= before.sockets && now.timers <= before.timers + 1;
}
