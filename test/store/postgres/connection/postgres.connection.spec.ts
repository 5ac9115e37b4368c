import { Logger } from '@nestjs/common';
import { performance } from 'node:perf_hooks';
import { Client } from 'pg';
import { DataSource } from 'typeorm';
import { IdempotencySetupError, OverloadedError, StoreUnavailableError } from '../../../../lib/core/errors';
import { IdempotencyCache } from '../../../../lib/store/postgres/schema/idempotency-cache.entity';
import { applicationPool } from '../../../../lib/store/postgres/connection/pool';
import { type RunningPostgres } from '../../../../servers';
import { until } from '../../../support/eventually';
import {
  claimed,
  claimRequest,
  openInstance,
  response,
  sql,
  whileFrozen,
} from '../../../support/postgres-store';
import { freshDatabases } from '../../../support/fresh-databases';
import { startProxy } from '../../../support/proxy';

describe('PostgresConnection', () => {
  const databases = freshDatabases();
  const instance = databases.open;
  let server: RunningPostgres;
  let url: string;
  beforeEach(() => ({ server, url } = databases));

  const frozen = <T>(work: () => Promise<T>): Promise<T> => whileFrozen(server, url, work);

  async function elapsed(work: () => Promise<unknown>): Promise<number> {
    const startedAt = performance.now();
    await work();
    return performance.now() - startedAt;
  }

  it('lets no claim wait for upkeep, which may take long, nor for reads that many keys wait for', async () => {
    const { connection } = await instance({ timeout: 1_000, poolSize: 2 });
    const slow = connection.operation('cleanup', { timeout: 60_000 })('SELECT pg_sleep(3)', []);
    const reads = Array.from({ length: 40 }, () =>
      connection
        .operation('find')('SELECT pg_sleep(0.1)', [])
        .catch(() => undefined),
    );
    const claims = await Promise.allSettled(
      Array.from({ length: 3 }, () => connection.operation('claim')('SELECT 1', [])),
    );
    expect(claims.map(({ status }) => status)).toEqual(Array(3).fill('fulfilled'));
    await Promise.all([slow, ...reads]);
  });

  describe('what has waited for its turn until its deadline', () => {
    const late = ({ connection }: Awaited<ReturnType<typeof instance>>): Promise<unknown> =>
      connection
        .operation('find', { timeout: 300 })('SELECT 1', [])
        .catch((error: unknown) => error);
    /** Holds the only connection of the reads. */
    const hold = ({ connection }: Awaited<ReturnType<typeof instance>>): Promise<unknown> =>
      connection
        .operation('find', { timeout: 5_000 })('SELECT pg_sleep(1)', [])
        .catch((error: unknown) => error);

    it('is told that too much waits, where Postgres answers others meanwhile', async () => {
      const opened = await instance({ poolSize: 2 });
      const held = hold(opened);
      const waits = late(opened);
      const renew = (): Promise<unknown> => opened.connection.operation('renew')('SELECT 1', []);
      let found: unknown;
      while (found === undefined) found = await Promise.race([waits, renew().then(() => undefined)]);
      expect(found).toBeInstanceOf(OverloadedError);
      await held;
    });

    it('is told that Postgres is unavailable, where it answers to nothing meanwhile', async () => {
      const opened = await instance({ poolSize: 2 });
      await opened.connection.operation('find')('SELECT 1', []);
      await frozen(async () => {
        const held = hold(opened);
        const error = await late(opened);
        expect(error).toBeInstanceOf(StoreUnavailableError);
        expect(error).not.toBeInstanceOf(OverloadedError);
        await opened.connection.close();
        await held;
      });
    });
  });

  const backends = (application: string): Promise<Record<string, unknown>[]> =>
    sql(
      url,
      `SELECT pid, state FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1`,
      [application],
    );

  describe('a pool of its own', () => {
    it('serves claims while handlers hold every connection of the application', async () => {
      const { dataSource, store } = await instance({ dataSource: { extra: { max: 2 } } });
      const handlers = [dataSource.createQueryRunner(), dataSource.createQueryRunner()];
      await Promise.all(handlers.map((handler) => handler.startTransaction()));
      try {
        const claim = claimed(await store.claim(claimRequest('key')));
        expect(await store.renew([claim], 1_000)).toEqual(new Set([claim.token]));
        expect(await store.complete(claim, response('done'))).toEqual({ recorded: true });
      } finally {
        await Promise.all(handlers.map((handler) => handler.release()));
      }
    });

    it('opens as many connections as it may, under a name that tells them apart', async () => {
      const { store } = await instance({ poolSize: 3, dataSource: { applicationName: 'shop' } });
      const claims = await Promise.all(
        Array.from({ length: 30 }, async (_, n) => claimed(await store.claim(claimRequest(`key-${n}`)))),
      );
      await Promise.all(
        claims.flatMap((claim) => [
          store.find(claim.id),
          store.renew([claim], 1_000),
          store.complete(claim, response('done')),
        ]),
      );
      expect(await backends('shop idempotency')).toHaveLength(3);
    });

    it('has the credentials of the DataSource, however they were given', async () => {
      await sql(url, `CREATE ROLE app LOGIN SUPERUSER PASSWORD 'p@ss:word'`).catch(() => undefined);
      const { hostname, port, pathname } = new URL(url);
      const parts = { host: hostname, port: Number(port), database: pathname.slice(1), username: 'app' };
      for (const password of ['p@ss:word', () => Promise.resolve('p@ss:word')]) {
        const { store } = await instance({ dataSource: { url: undefined, ...parts, password } });
        claimed(await store.claim(claimRequest(`key-${typeof password}`)));
      }
    });

    it('goes to the master where reads are replicated', async () => {
      const { store, dataSource } = await instance({
        dataSource: {
          url: undefined,
          replication: { master: { url }, slaves: [{ url: server.url }] },
        },
      });
      claimed(await store.claim(claimRequest('key')));
      expect(await sql(url, 'SELECT key FROM idempotency_cache')).toEqual([{ key: 'key' }]);
      expect(dataSource.isInitialized).toBe(true);
    });

    it('needs a DataSource that is initialized', () => {
      const dataSource = new DataSource({ type: 'postgres', url, entities: [IdempotencyCache] });
      expect(() => applicationPool(dataSource)).toThrow(IdempotencySetupError);
    });

    it('is closed without the pool of the application', async () => {
      const { connection, dataSource, store } = await instance({ dataSource: { applicationName: 'shop' } });
      await store.claim(claimRequest('key'));
      await Promise.all([connection.close(), connection.close()]);
      await connection.close();
      await until(async () => (await backends('shop idempotency')).length === 0);
      expect(await dataSource.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
      await expect(store.claim(claimRequest('key'))).rejects.toThrow(StoreUnavailableError);
    });
  });

  describe('while Postgres hangs', () => {
    it('gives up in time, and has a healthy pool as soon as Postgres goes on', async () => {
      const { store } = await instance({ timeout: 1_000, poolSize: 2 });
      const claim = claimed(await store.claim(claimRequest('before')));
      await frozen(async () => {
        // More than there are connections: some wait for a statement, some for a connection, some for a new one.
        const took = await elapsed(() =>
          Promise.all(
            Array.from({ length: 10 }, (_, n) =>
              expect(store.claim(claimRequest(`key-${n}`))).rejects.toThrow(StoreUnavailableError),
            ),
          ),
        );
        expect(took).toBeLessThan(5_000);
        await expect(store.complete(claim, response('done'))).rejects.toThrow(/took longer than \d+ ms/);
      });
      await until(() =>
        store.find(claim.id).then(
          () => true,
          () => false,
        ),
      );
      const results = await Promise.all(
        Array.from({ length: 20 }, (_, n) => store.find(claimRequest(`key-${n}`).id)),
      );
      expect(results).toHaveLength(20);
      expect(await store.complete(claim, response('done'))).toEqual({ recorded: true });
    });

    it('never gives the reply to one statement as the reply to another', async () => {
      const { store, connection } = await instance({ poolSize: 1 });
      await store.find(claimRequest('warm').id);
      const slow = connection.operation('slow', { timeout: 200 });
      await expect(slow(`SELECT 'late' AS reply, pg_sleep(1)`, [])).rejects.toThrow(StoreUnavailableError);
      expect(await connection.operation('next')(`SELECT 'right' AS reply`, [])).toEqual([{ reply: 'right' }]);
    });

    it('replaces a connection that has gone silent, although it looks open', async () => {
      const proxy = await startProxy(Number(new URL(url).port));
      const { store } = await instance({ timeout: 1_000, poolSize: 1 }, proxy.through(url));
      await store.find(claimRequest('warm').id);
      proxy.silence();
      await expect(store.find(claimRequest('key').id)).rejects.toThrow(StoreUnavailableError);
      expect(await store.find(claimRequest('key').id)).toBeUndefined();
      await proxy.close();
    });

    it('closes within a second or so, and leaves no socket open', async () => {
      const opened = await openInstance(url, { timeout: 10_000, poolSize: 4 });
      const { connection, store } = opened;
      const held = claimed(await store.claim(claimRequest('held')));
      await Promise.all(Array.from({ length: 4 }, () => store.renew([held], 1_000)));
      const before = sockets();
      await frozen(async () => {
        const hanging = [store.claim(claimRequest('a')), store.claim(claimRequest('b'))];
        const settled = Promise.allSettled(hanging);
        expect(await elapsed(() => connection.close())).toBeLessThan(5_000);
        for (const result of await settled) expect(result.status).toBe('rejected');
        await until(() => sockets() === before - 4);
      });
      await opened.dataSource.destroy();
    });

    it('closes also while it is still connecting', async () => {
      const opened = await openInstance(url, { timeout: 10_000, poolSize: 4 });
      const before = sockets();
      await frozen(async () => {
        const settled = Promise.allSettled([opened.store.claim(claimRequest('a'))]);
        await until(() => sockets() > before);
        expect(await elapsed(() => opened.connection.close())).toBeLessThan(5_000);
        expect((await settled)[0].status).toBe('rejected');
        await until(() => sockets() === before);
      });
      await opened.dataSource.destroy();
    });

    function sockets(): number {
      return process.getActiveResourcesInfo().filter((each) => /TCP(Socket)?Wrap/.test(each)).length;
    }

    it('does not pile up waiting statements in Postgres behind a lock', async () => {
      const { store } = await instance({
        timeout: 150,
        poolSize: 2,
        dataSource: { applicationName: 'shop' },
      });
      const other = new Client({ connectionString: url });
      await other.connect();
      await other.query('BEGIN; LOCK TABLE idempotency_cache');
      for (let n = 0; n < 10; n++)
        await expect(store.find(claimRequest('key').id)).rejects.toThrow(StoreUnavailableError);
      await until(async () => (await backends('shop idempotency')).length <= 1);
      await other.query('COMMIT');
      await other.end();
      await until(async () => (await store.find(claimRequest('key').id).catch(() => 'late')) === undefined);
    });
  });

  describe('when Postgres restarts', () => {
    it('serves the next call from new connections', async () => {
      const { store } = await instance({ poolSize: 4 });
      const claims = await Promise.all(
        Array.from({ length: 8 }, async (_, n) => claimed(await store.claim(claimRequest(`key-${n}`)))),
      );
      await server.restart();
      for (const claim of claims)
        expect(await store.complete(claim, response('done'))).toEqual({ recorded: true });
    });

    it('tries again at once when connections of the pool turn out dead', async () => {
      const proxy = await startProxy(Number(new URL(url).port));
      const { store } = await instance({ poolSize: 4 }, proxy.through(url));
      await Promise.all(Array.from({ length: 8 }, (_, n) => store.claim(claimRequest(`key-${n}`))));
      // The next statement finds each of them dead, as where a firewall has forgotten a connection.
      proxy.resetOnNextData();
      const claim = claimed(await store.claim(claimRequest('key')));
      expect(await store.complete(claim, response('done'))).toEqual({ recorded: true });
      await proxy.close();
    });

    it('owns a claim that was committed although the connection broke before the reply', async () => {
      const proxy = await startProxy(Number(new URL(url).port));
      const { store } = await instance({ poolSize: 1 }, proxy.through(url));
      await store.find(claimRequest('warm').id);
      proxy.resetOnNextReply();
      const request = claimRequest('key');
      const claim = claimed(await store.claim(request));
      expect(claim).toMatchObject({ token: request.token, attempt: 1 });
      proxy.resetOnNextReply();
      expect(await store.complete(claim, response('done'))).toEqual({ recorded: true });
      await proxy.close();
    });

    it('owns every claim of a batch whose reply was lost', async () => {
      const proxy = await startProxy(Number(new URL(url).port));
      const { store } = await instance(
        { poolSize: 1, dataSource: { applicationName: 'shop' } },
        proxy.through(url),
      );
      await store.find(claimRequest('warm').id);
      const before = await backends('shop idempotency');
      const requests = Array.from({ length: 20 }, (_, n) => claimRequest(`key-${n}`));
      const results = requests.map((request) => store.claim(request));
      await results[0]; // it went alone; the others are on their way together now
      proxy.resetOnNextReply();
      const claims = (await Promise.all(results)).map(claimed);
      expect(claims.map(({ token, attempt }) => [token, attempt])).toEqual(
        requests.map(({ token }) => [token, 1]),
      );
      expect((await backends('shop idempotency'))[0]?.pid).not.toBe(before[0]?.pid);
      const completed = claims.map((claim) => store.complete(claim, response('done')));
      await completed[0];
      proxy.resetOnNextReply();
      for (const result of await Promise.all(completed)) expect(result).toEqual({ recorded: true });
      await proxy.close();
    });

    it('survives the loss of idle connections, and logs no warning', async () => {
      const warn = jest.spyOn(Logger.prototype, 'warn');
      const { store } = await instance({ dataSource: { applicationName: 'shop' } });
      await Promise.all(Array.from({ length: 8 }, (_, n) => store.claim(claimRequest(`key-${n}`))));
      await sql(
        url,
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'shop idempotency'`,
      );
      expect(await store.find(claimRequest('key-1').id)).toMatchObject({ state: 'in_progress' });
      expect(warn.mock.calls).toEqual([]);
    });
  });

  describe('reports as unavailable', () => {
    const cause = async (work: Promise<unknown>): Promise<StoreUnavailableError> => {
      const error: unknown = await work.then(
        () => undefined,
        (reason: unknown) => reason,
      );
      expect(error).toBeInstanceOf(StoreUnavailableError);
      return error as StoreUnavailableError;
    };

    it('a server that is gone', async () => {
      const proxy = await startProxy(Number(new URL(url).port));
      const { store } = await instance({}, proxy.through(url));
      await store.find(claimRequest('key').id);
      await proxy.close();
      const error = await cause(store.claim(claimRequest('key')));
      expect(error).toMatchObject({ tier: 'postgres', operation: 'claim' });
    });

    it('a server without a free connection', async () => {
      const name = new URL(url).pathname.slice(1);
      await sql(url, `CREATE ROLE poor LOGIN`).catch(() => undefined);
      await sql(url, `GRANT ALL ON idempotency_cache TO poor`);
      const { store } = await instance({ dataSource: { url: url.replace('postgres@', 'poor@') } });
      await sql(url, `ALTER DATABASE "${name}" CONNECTION LIMIT 0`);
      expect((await cause(store.find(claimRequest('key').id))).message).toContain('too many connections');
    });

    it('a standby that takes no writes', async () => {
      const name = new URL(url).pathname.slice(1);
      await sql(url, `ALTER DATABASE "${name}" SET default_transaction_read_only = on`);
      const { store } = await instance();
      expect((await cause(store.claim(claimRequest('key')))).message).toContain('read-only');
    });

    it('a statement that the role’s own time-out has cancelled', async () => {
      const { connection } = await instance({ dataSource: { extra: { statement_timeout: 50 } } });
      expect((await cause(connection.operation('slow')('SELECT pg_sleep(5)', []))).message).toContain(
        'statement timeout',
      );
    });
  });

  describe('reports as a fault of the set-up', () => {
    it('a table that is missing, and says what to run', async () => {
      const { store } = await instance();
      await sql(url, 'DROP TABLE idempotency_cache');
      const claim = store.claim(claimRequest('key'));
      await expect(claim).rejects.toThrow(IdempotencySetupError);
      await expect(claim).rejects.toThrow('migrations/015_idempotency_cache.sql');
    });

    it('a table that the role may not write, and says what to grant', async () => {
      await sql(url, `CREATE ROLE reader LOGIN`).catch(() => undefined);
      await sql(url, `GRANT SELECT ON idempotency_cache TO reader`);
      const { store } = await instance({ dataSource: { url: url.replace('postgres@', 'reader@') } });
      const claim = store.claim(claimRequest('key'));
      await expect(claim).rejects.toThrow(IdempotencySetupError);
      await expect(claim).rejects.toThrow('Grant the rights');
    });
  });

  it('passes on what Postgres refuses for any other reason, and keeps the connection', async () => {
    const { connection } = await instance({ poolSize: 1, dataSource: { applicationName: 'shop' } });
    const run = connection.operation('odd');
    const pid = async (): Promise<unknown> =>
      (await run<{ pid: number }>('SELECT pg_backend_pid() AS pid', []))[0]?.pid;
    const before = await pid();
    await expect(run('SELECT 1/0', [])).rejects.toThrow('division by zero');
    expect(await pid()).toBe(before);
  });
});
