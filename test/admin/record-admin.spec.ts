import { Controller, Logger, Post } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import {
  Idempotent,
  IdempotencyAdmin,
  httpScope,
  isIdempotencySetupError,
  type AuditEvent,
  type IdempotencyModuleOptions,
} from '../../lib';
import { AuditLog } from '../../lib/admin/audit-log';
import { StoreUnavailableError } from '../../lib/core/errors';
import type { RecordBatch } from '../../lib/core/record-directory';
import { PostgresDirectory } from '../../lib/store/postgres/directory';
import { PostgresStore } from '../../lib/store/postgres/postgres.store';
import { MemoryData, MemoryStore } from '../../lib/store/memory/memory.store';
import { appOnServers } from '../support/app-on-servers';
import { startApp, type TestApp } from '../support/app';
import { cutWalk } from '../support/cut-walk';
import { eventually } from '../support/eventually';
import { isReplay } from '../support/http';
import { gate } from '../support/gate';
import { lapse, loseOutcome, sql } from '../support/postgres-store';

let runs = 0;

@Controller('orders')
class OrdersController {
  @Post()
  @Idempotent({
    onOrphan: 'reject',
    scope: (context) =>
      context.switchToHttp().getRequest<{ headers: Record<string, string> }>().headers['x-user'],
  })
  create(): unknown {
    runs += 1;
    return { run: runs };
  }
}

const CHANGE = { by: 'ann', reason: 'ticket 42' };

describe('IdempotencyAdmin', () => {
  const events: AuditEvent[] = [];
  let hookFails = false;
  const options: IdempotencyModuleOptions = {
    audit: (event) => {
      events.push(event);
      if (hookFails) throw new Error('the hook failed');
    },
  };
  const servers = appOnServers({ controllers: [OrdersController], options });
  let admin: IdempotencyAdmin;
  let user: string;
  beforeEach(() => {
    [runs, hookFails, user] = [0, false, randomUUID()];
    events.length = 0;
    admin = servers.app.app.get(IdempotencyAdmin);
  });

  const send = (key: string, from: string = user) =>
    servers.app.call('/orders', { headers: { 'idempotency-key': key, 'x-user': from } });
  const scopeOf = (name: string): string => httpScope('POST', '/orders', { scope: name });
  /** Its owner is lost. */
  const orphan = async (key: string): Promise<string> => {
    const scope = scopeOf(user);
    const { service } = servers.app;
    void service
      .execute(key, () => new Promise(() => undefined), { scope, lease: '1h' })
      .catch(() => undefined);
    await eventually(async () => expect(await service.find(key, { scope })).toBeDefined());
    await lapse(servers.postgres.url, key);
    const [record] = (await admin.list({ principal: user, state: 'orphaned' })).records;
    return record!.hash;
  };

  it('lists and shows what a caller has sent', async () => {
    const key = randomUUID();
    await send(key);
    await send(randomUUID(), 'another');
    const { records, cursor } = await admin.list({ principal: user });
    expect(cursor).toBeUndefined();
    expect(records).toMatchObject([
      {
        key,
        route: 'POST /orders',
        principal: `scope:s:${user}`,
        state: 'completed',
        status: 201,
        attempt: 1,
      },
    ]);
    const shown = await admin.show(records[0]!.hash);
    expect(shown).toEqual(await admin.show({ key, scope: scopeOf(user) }));
    expect(shown).toMatchObject({ hash: records[0]!.hash });
    expect(shown?.outcome?.kind === 'response' && shown.outcome.body.toString()).toBe('{"run":1}');
    await eventually(async () => expect((await admin.show(records[0]!.hash))?.copy).toBe('completed'));
    expect(await admin.show('0'.repeat(64))).toBeUndefined();
    await expect(admin.show('short')).rejects.toThrow('64 hexadecimal digits');
  });

  it('settles an orphan with a response, which the retry gets', async () => {
    const key = randomUUID();
    const hash = await orphan(key);
    expect((await admin.list({ state: 'in_flight', principal: user })).records).toEqual([]);
    expect(await admin.resolve(hash, { status: 202, body: 'settled' }, CHANGE)).toBe(true);
    expect(await admin.resolve(hash, { status: 202, body: 'again' }, CHANGE)).toBe(false);
    expect(await admin.show(hash)).toMatchObject({ state: 'completed', status: 202, attempt: 2 });
    expect(events).toEqual([
      {
        ...CHANGE,
        at: expect.any(Date),
        action: 'resolve',
        result: 'done',
        record: { hash, route: 'POST /orders' },
      },
    ]);
  });

  it('gives an orphan to the next request', async () => {
    const hash = await orphan(randomUUID());
    expect(await admin.retry(hash, CHANGE)).toBe(true);
    expect(await admin.show(hash)).toBeUndefined();
    expect(await admin.retry(hash, CHANGE)).toBe(false);
    expect(events.map(({ action }) => action)).toEqual(['retry']);
  });

  it('settles by one of two operators at once', async () => {
    const hash = await orphan(randomUUID());
    const settled = await Promise.all([1, 2, 3].map((n) => admin.resolve(hash, { status: 200 + n }, CHANGE)));
    expect(settled.filter((done) => done)).toHaveLength(1);
    expect(events).toHaveLength(1);
  });

  it('leaves a request that runs alone, also where its owner was thought lost and renews its lease', async () => {
    const key = randomUUID();
    const hash = await orphan(key);
    await sql(
      servers.postgres.url,
      `UPDATE idempotency_cache SET lease_until = now() + interval '1 h' WHERE key = $1`,
      [key],
    );
    expect(await admin.resolve(hash, { status: 201 }, CHANGE)).toBe(false);
    expect(await admin.retry(hash, CHANGE)).toBe(false);
    expect(await admin.forget(hash, CHANGE)).toBe(false);
    expect(await admin.purge({ principal: user }, CHANGE)).toMatchObject({ purged: 0, inFlight: 1 });
    expect(events.map(({ action, result }) => `${action} ${result}`)).toEqual(['purge begun', 'purge done']);
    await sql(servers.postgres.url, 'DELETE FROM idempotency_cache WHERE key = $1', [key]);
  });

  describe('where Postgres has lost an outcome in a failover, of which Redis has a copy', () => {
    let hash: string;
    let key: string;
    beforeEach(async () => {
      key = randomUUID();
      await send(key);
      hash = (await admin.list({ principal: user })).records[0]!.hash;
      await eventually(async () => expect((await admin.show(hash))?.copy).toBe('completed'));
      await loseOutcome(servers.postgres.url, key);
      expect(await admin.show(hash)).toMatchObject({ state: 'orphaned', copy: 'completed' });
    });

    it.each([
      ['resolves', () => admin.resolve(hash, { status: 202 }, CHANGE)],
      ['retries', () => admin.retry(hash, CHANGE)],
      ['resolves by its key', () => servers.app.service.resolve(key, 'retry', { scope: scopeOf(user) })],
    ])('records it where an operator %s, and says that there is nothing to settle', async (_, settle) => {
      expect(await settle()).toBe(false);
      expect(await admin.show(hash)).toMatchObject({ state: 'completed', status: 201, attempt: 2 });
      expect(isReplay(await send(key))).toBe(true);
      expect(runs).toBe(1);
      expect(events).toEqual([]);
    });

    it('forgets both', async () => {
      expect(await admin.forget(hash, CHANGE)).toBe(true);
      expect(isReplay(await send(key))).toBe(false);
      expect(runs).toBe(2);
    });

    it('forgets the copy where the row was lost as well', async () => {
      await sql(servers.postgres.url, 'DELETE FROM idempotency_cache WHERE key = $1', [key]);
      expect(await admin.forget({ key, scope: scopeOf(user) }, CHANGE)).toBe(true);
      expect(events).toMatchObject([{ action: 'forget', record: { hash, route: 'POST /orders' } }]);
      expect(isReplay(await send(key))).toBe(false);
    });
  });

  it('forgets one record', async () => {
    const key = randomUUID();
    await send(key);
    expect(isReplay(await send(key))).toBe(true);
    expect(await admin.forget({ key, scope: scopeOf(user) }, CHANGE)).toBe(true);
    expect(isReplay(await send(key))).toBe(false);
    expect(runs).toBe(2);
  });

  it('purges by caller in both stores, and no other caller', async () => {
    const keys = Array.from({ length: 5 }, () => randomUUID());
    await Promise.all(keys.flatMap((key) => [send(key), send(key, `${user}7`)]));
    const progress: number[] = [];
    const report = await admin.purge({ principal: user }, CHANGE, ({ read }) => progress.push(read));
    expect(report).toMatchObject({
      purged: 5,
      inFlight: 0,
      changed: 0,
      complete: true,
      unreachable: { redis: 0, arbiter: 0 },
    });
    expect(progress.at(-1)).toBe(1);
    for (const key of keys) {
      expect(isReplay(await send(key))).toBe(false);
      expect(isReplay(await send(key, `${user}7`))).toBe(true);
    }
    expect(events).toEqual([
      { ...CHANGE, at: expect.any(Date), action: 'purge', filter: { principal: user }, result: 'begun' },
      {
        ...CHANGE,
        at: expect.any(Date),
        action: 'purge',
        filter: { principal: user },
        purged: 5,
        left: 0,
        result: 'done',
      },
    ]);
  });

  it('purges a request that ends while the table is read, and no copy of it comes back', async () => {
    const key = randomUUID();
    const [held, scope] = [gate(), scopeOf(user)];
    const work = async (): Promise<string> => {
      await held.pass();
      return 'to be erased';
    };
    const handled = servers.app.service.execute(key, work, { scope });
    await held.reached();
    const [record] = (await admin.list({ principal: user, state: 'in_flight' })).records;
    const walk = PostgresDirectory.prototype.walk;
    jest.spyOn(PostgresDirectory.prototype, 'walk').mockImplementation(async function* (
      this: PostgresDirectory,
      selection,
    ) {
      const batches = walk.call(this, selection);
      yield (await batches.next()).value as RecordBatch;
      held.open();
      await handled;
      await eventually(async () => expect((await admin.show(record!.hash))?.copy).toBe('completed'));
      yield* batches;
    });
    const report = await admin.purge({ principal: user }, CHANGE);
    jest.restoreAllMocks();
    expect(report).toMatchObject({ purged: 1, copies: 1, inFlight: 0 });
    expect(await servers.app.service.find(key, { scope })).toBeUndefined();
    expect(await servers.app.service.execute(key, () => 'anew', { scope })).toBe('anew');
  });

  describe('a purge that is interrupted', () => {
    let failure: Error | undefined;
    let toldBefore: ReturnType<typeof told>;
    beforeEach(async () => {
      failure = undefined;
      for (let i = 0; i < 3; i++) await send(randomUUID());
      cutWalk(() => {
        toldBefore = told();
        if (failure) throw failure;
      });
    });
    afterEach(() => jest.restoreAllMocks());
    const told = () => events.map(({ result, purged }) => ({ result, purged }));

    it('ends between two batches, and says what it has done', async () => {
      const stop = new AbortController();
      const report = await admin.purge({ principal: user }, CHANGE, () => stop.abort(), stop.signal);
      expect(report).toMatchObject({ purged: 1, complete: false, error: expect.stringContaining('stopped') });
      expect(told()).toEqual([
        { result: 'begun', purged: undefined },
        { result: 'stopped', purged: 1 },
      ]);
      expect(await admin.purge({ principal: user }, CHANGE)).toMatchObject({ purged: 2, complete: true });
    });

    it('ends where the store that decides stays silent, and not by one time that it does not answer', async () => {
      for (let i = 0; i < 3; i++) await send(randomUUID());
      const down = new StoreUnavailableError('postgres', 'forget', 'it is down');
      const forgetAll = jest.spyOn(PostgresStore.prototype, 'forgetAll').mockRejectedValue(down);
      const silent = await admin.purge({ principal: user }, CHANGE);
      expect(silent).toMatchObject({ purged: 0, unreachable: { redis: 0, arbiter: 3 }, complete: false });
      expect(told().at(-1)).toEqual({ result: 'stopped', purged: 0 });
      expect(events.at(-1)).toMatchObject({ left: 3 });
      forgetAll.mockReset().mockRestore();
      jest
        .spyOn(PostgresStore.prototype, 'forgetAll')
        .mockRejectedValueOnce(down)
        .mockRejectedValueOnce(down);
      const again = await admin.purge({ principal: user }, CHANGE);
      expect(again).toMatchObject({ purged: 4, unreachable: { redis: 0, arbiter: 2 }, complete: true });
      expect(events.at(-1)).toMatchObject({ result: 'done', left: 2 });
    });

    it('is in the audit also where the store fails', async () => {
      failure = new StoreUnavailableError('postgres', 'look', 'it is down');
      expect(await admin.purge({ principal: user }, CHANGE)).toMatchObject({ purged: 1, complete: false });
      expect(toldBefore).toEqual([{ result: 'begun', purged: undefined }]);
      expect(told().at(-1)).toEqual({ result: 'stopped', purged: 1 });
    });

    it('is in the audit also where a bug ends it', async () => {
      failure = new TypeError('a bug');
      await expect(admin.purge({ principal: user }, CHANGE)).rejects.toBe(failure);
      expect(told().at(-1)).toEqual({ result: 'unknown', purged: 1 });
    });
  });

  it('purges by route and age together', async () => {
    const key = randomUUID();
    await send(key);
    expect(
      await admin.purge({ route: 'POST /orders', principal: user, olderThan: '1h' }, CHANGE),
    ).toMatchObject({ purged: 0 });
    expect(await admin.purge({ route: 'POST /orders/:id', principal: user }, CHANGE)).toMatchObject({
      purged: 0,
    });
    expect(await admin.purge({ route: 'POST /orders', principal: user, olderThan: 0 }, CHANGE)).toMatchObject(
      { purged: 1 },
    );
    await expect(admin.purge({}, CHANGE)).rejects.toThrow('no condition is given');
  });

  it('wants to know who and why, and logs it without key and caller', async () => {
    const lines: string[] = [];
    jest.spyOn(Logger.prototype, 'warn').mockImplementation((line: unknown) => void lines.push(String(line)));
    const key = randomUUID();
    await send(key);
    const record = { key, scope: scopeOf(user) };
    await expect(admin.forget(record, { by: '', reason: 'x' })).rejects.toThrow('who does it');
    await expect(admin.purge({ key }, undefined as never)).rejects.toThrow('who does it');
    expect(await admin.forget(record, CHANGE)).toBe(true);
    const scope = 'POST /\u001b[2J\u202e';
    await servers.app.service.execute(key, () => 1, { scope });
    expect(await admin.forget({ key, scope }, { by: 'ann\u009b31m', reason: 'x' })).toBe(true);
    jest.restoreAllMocks();
    const [line = '', hostile = ''] = lines.filter((each) => each.startsWith('Audit'));
    expect(hostile).toContain('of POST /\\u{1b}[2J\\u{202e}, record');
    expect(hostile).not.toMatch(/\p{C}/u);
    expect(line).toMatch(
      /^Audit: forget \(done\) of POST \/orders, record [0-9a-f]{64}, by "ann": "ticket 42"$/,
    );
  });

  it('has made the change where the hook fails', async () => {
    hookFails = true;
    const key = randomUUID();
    await send(key);
    const error = jest.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
    expect(await admin.forget({ key, scope: scopeOf(user) }, CHANGE)).toBe(true);
    expect(error).toHaveBeenCalledWith(expect.stringContaining('`audit` option failed'), expect.any(Error));
    jest.restoreAllMocks();
  });

  it('has made the change where the hook does not end', async () => {
    const error = jest.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
    const audit = new AuditLog(() => new Promise(() => undefined), 50);
    await audit.begin(CHANGE, { action: 'purge' });
    expect(
      await audit.record(
        CHANGE,
        () => Promise.resolve('made'),
        () => ({ action: 'forget' }),
      ),
    ).toBe('made');
    expect(error).toHaveBeenCalledTimes(2);
    expect(error).toHaveBeenCalledWith(expect.stringContaining('has not ended within 50 ms'));
    jest.restoreAllMocks();
  });

  it('says how many requests of this process were executed and replayed, and the share of replays', async () => {
    const before = (await admin.stats()).requests!;
    const key = randomUUID();
    await send(key);
    await send(key);
    const [executed, replayed] = [before.executed + 1, before.replayed + 1];
    const hitRate = replayed / (executed + replayed);
    expect((await admin.stats()).requests).toEqual({ executed, replayed, hitRate });
  });

  it('knows no record of another namespace by its hash, and leaves it alone', async () => {
    const { postgres, redis } = servers;
    const other = await startApp({
      databaseUrl: postgres.url,
      redisUrl: redis.url,
      options: { namespace: 'billing' },
    });
    try {
      await other.service.execute('their key', () => 'theirs');
      const theirs = other.app.get(IdempotencyAdmin);
      const { records } = await theirs.list({ key: 'their key' });
      const { hash } = records[0]!;
      expect(await theirs.show(hash)).toMatchObject({ key: 'their key' });
      expect(await admin.show(hash)).toBeUndefined();
      expect(await admin.forget(hash, CHANGE)).toBe(false);
      expect(events).toEqual([]);
      expect(await theirs.show(hash)).toMatchObject({ key: 'their key', copy: 'completed' });
      expect(await theirs.forget(hash, CHANGE)).toBe(true);
    } finally {
      await other.close();
    }
  });
});

describe('IdempotencyAdmin without Postgres', () => {
  let app: TestApp;
  afterEach(() => app.close());

  it('says what it cannot do, and reaches a record by its key', async () => {
    const store = new MemoryStore({
      data: new MemoryData(),
      now: () => performance.now(),
      retention: 60_000,
    });
    Object.defineProperty(store, 'directory', { value: undefined }); // as an application's own may have none
    app = await startApp({ options: { store, redis: undefined, postgres: undefined } });
    const admin = app.app.get(IdempotencyAdmin);
    const asked = [admin.list(), admin.stats(), admin.show({ key: 'a' }), admin.purge({ key: 'a' }, CHANGE)];
    for (const answer of await Promise.allSettled<unknown>(asked))
      expect(answer.status === 'rejected' && isIdempotencySetupError(answer.reason)).toBe(true);
    await app.service.execute('a', () => 1);
    expect(await admin.forget({ key: 'a' }, CHANGE)).toBe(true);
    expect(await app.service.find('a')).toBeUndefined();
  });
});
