import { AsyncResource } from 'node:async_hooks';
import type { DataSource, QueryRunner } from 'typeorm';
import { isTransactionEndedError } from '../../lib';
import type { JointTransaction } from '../../lib/transaction/joint-transaction';
import { startPostgres, type RunningPostgres } from '../../servers';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import { gate } from '../support/gate';
import { openDatabase, Row, VERSIONS, type Database } from './harness';

/** What can be obtained before the end, and how it is used after it. */
const USES: Record<string, (dataSource: DataSource, runner: QueryRunner) => () => Promise<unknown>> = {
  'a query runner': (_, runner) => () => runner.query('SELECT 1'),
  'the transaction of a query runner': (_, runner) => () => runner.startTransaction(),
  'the manager of a query runner': (_, runner) => () => runner.manager.save(Row, { name: 'late' }),
  'a repository of that manager': (_, runner) => {
    const repository = runner.manager.getRepository(Row);
    return () => repository.insert({ name: 'late' });
  },
  'a query builder': (_, runner) => {
    const builder = runner.manager.createQueryBuilder().insert().into(Row).values({ name: 'late' });
    return () => builder.execute();
  },
  'a stream of a query runner': (_, runner) => async () => {
    for await (const row of await runner.stream('SELECT 1')) expect(row).toBe('refused');
  },
  'an injected repository': (dataSource) => {
    const repository = dataSource.getRepository(Row);
    return () => repository.save({ name: 'late' });
  },
  'dataSource.transaction()': (dataSource) => () =>
    dataSource.transaction((manager) => manager.query('SELECT 1')),
};

describe.each(VERSIONS)('the end of a transaction over %s', (version) => {
  let server: RunningPostgres;
  let database: Database;
  beforeAll(async () => {
    server = await startPostgres();
    database = await openDatabase(server.url, version);
  });
  afterAll(async () => {
    await database.close();
    await server.stop();
  });
  afterEach(() => database.dataSource.query('DELETE FROM "row"'));

  /** Holds a lock, so that a statement waits for it. */
  async function locked(): Promise<{ wait: string; waited(): Promise<void>; unlock(): Promise<void> }> {
    const runner = database.ambient.queryRunner();
    await runner.query('SELECT pg_advisory_lock(1)');
    return {
      wait: 'SELECT pg_advisory_xact_lock(1)',
      waited: async () => {
        await eventually(async () => {
          const waiting = await sql(
            server.url,
            `SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`,
          );
          expect(waiting).toHaveLength(1);
        });
      },
      unlock: async () => {
        await runner.query('SELECT pg_advisory_unlock(1)');
        await runner.release();
      },
    };
  }

  it.each(Object.keys(USES))('refuses what was obtained before it: %s', async (use) => {
    const late = await database.transact(async () => {
      const runner = database.dataSource.createQueryRunner();
      await runner.query('SELECT 1');
      return AsyncResource.bind(USES[use]!(database.dataSource, runner));
    });
    const error: unknown = await late().catch((reason: unknown) => reason);
    expect(isTransactionEndedError(error)).toBe(true);
    expect(error).toMatchObject({ message: expect.stringContaining('outside()') });
    expect(await database.rows()).toEqual([]);
  });

  it('refuses what still waits for its turn, and lets the statement under way finish', async () => {
    const lock = await locked();
    const { dataSource } = database;
    const { pass, reached, open } = gate();
    const transacted = database.transact(async () => {
      await dataSource.getRepository(Row).save({ name: 'first' });
      const underWay = dataSource.query(lock.wait);
      const queued = dataSource.getRepository(Row).insert({ name: 'queued' });
      await lock.waited();
      await pass();
      return [underWay, queued];
    });
    const settled = transacted.then((siblings) => Promise.allSettled(siblings));
    await reached();
    open();
    await lock.unlock();
    expect(await settled).toMatchObject([
      { status: 'fulfilled' },
      { status: 'rejected', reason: { code: 'transaction_ended' } },
    ]);
    expect(await database.rows()).toEqual(['first']);
  });

  it('undoes what a transaction within it has not finished', async () => {
    const { dataSource } = database;
    const { pass, reached, open } = gate();
    const unfinished = await database.transact(async () => {
      await dataSource.getRepository(Row).save({ name: 'first' });
      const sibling = dataSource.transaction(async (manager) => {
        await manager.save(Row, { name: 'half' });
        await dataSource.transaction(() => dataSource.getRepository(Row).save({ name: 'within' }));
        await pass();
        await manager.save(Row, { name: 'other half' });
      });
      await reached();
      return { sibling: sibling.catch((error: unknown) => error) };
    });
    expect(await database.rows()).toEqual(['first']);
    open();
    expect(await unfinished.sibling).toMatchObject({ code: 'transaction_ended' });
    expect(await database.rows()).toEqual(['first']);
  });

  it('refuses what waits for a transaction within it that does not end', async () => {
    const { dataSource } = database;
    const { pass, reached, open } = gate();
    const late = await database.transact(async () => {
      const sibling = dataSource.transaction(pass);
      await reached();
      const queued = dataSource.getRepository(Row).insert({ name: 'queued' });
      const nested = dataSource.transaction((manager) => manager.insert(Row, { name: 'nested' }));
      return { sibling, queued: Promise.allSettled([queued, nested]) };
    });
    expect(await late.queued).toMatchObject([
      { status: 'rejected', reason: { code: 'transaction_ended' } },
      { status: 'rejected', reason: { code: 'transaction_ended' } },
    ]);
    open();
    await expect(late.sibling).rejects.toMatchObject({ code: 'transaction_ended' });
  });

  it.each(['late', 'waiting'])('names the line of a query that it refuses: %s', async (when) => {
    const { dataSource } = database;
    const { pass, reached, open } = gate();
    async function forgetful(): Promise<void> {
      if (when === 'late') await pass();
      await dataSource.getRepository(Row).insert({ name: 'late' });
    }
    const refused = await database.transact(async () => {
      if (when === 'waiting') void dataSource.transaction(pass).catch(() => undefined);
      if (when === 'waiting') await reached();
      return { error: forgetful().catch((error: unknown) => error) };
    });
    open();
    expect(((await refused.error) as Error).stack).toContain('forgetful');
  });

  it('refuses what has its turn, but has not been sent', async () => {
    const refused = await database.transact((transaction) => {
      const joint = transaction as JointTransaction;
      const turn = joint.turn({ level: joint.root });
      transaction.end();
      return Promise.resolve({ error: turn.catch((error: unknown) => error) });
    });
    expect(await refused.error).toMatchObject({ code: 'transaction_ended' });
  });

  it.each([
    ['beforeTransactionStart', ['first']],
    ['afterTransactionStart', ['first']],
    ['beforeTransactionCommit', ['first']],
    ['afterTransactionCommit', ['first', 'within']],
  ] as const)('undoes a savepoint only while it is there: a sibling is at %s', async (stage, left) => {
    const { dataSource } = database;
    const { pass, reached, open } = gate();
    const subscribers = dataSource.subscribers;
    subscribers.push({ [stage]: pass });
    const { sibling } = await database.transact(async () => {
      await dataSource.getRepository(Row).save({ name: 'first' });
      const sibling = dataSource.transaction((manager) => manager.insert(Row, { name: 'within' }));
      await reached();
      return { sibling: sibling.catch((error: unknown) => error) };
    });
    subscribers.pop();
    open();
    await sibling;
    expect(await database.rows()).toEqual(left);
  });

  it('refuses a sibling that goes on after its transaction was rolled back', async () => {
    const { dataSource } = database;
    const { pass, open } = gate();
    const late = await database.transact(async () => {
      let sibling!: Promise<unknown>;
      const failed = dataSource.transaction(async () => {
        sibling = pass().then(() => dataSource.getRepository(Row).save({ name: 'late' }));
        throw new Error('failed');
      });
      await expect(failed).rejects.toThrow('failed');
      open();
      return sibling.catch((error: unknown) => error);
    });
    expect(late).toMatchObject({ code: 'transaction_ended', message: expect.stringContaining('nested') });
    expect(await database.rows()).toEqual([]);
  });

  it('lets work that goes on after a nested transaction was committed write in the transaction around it', async () => {
    const { dataSource } = database;
    const { pass, open } = gate();
    await database.transact(async () => {
      let sibling!: Promise<unknown>;
      await dataSource.transaction(async (manager) => {
        sibling = pass().then(() => dataSource.getRepository(Row).save({ name: 'later' }));
        await manager.save(Row, { name: 'within' });
      });
      open();
      await sibling;
    });
    expect(await database.rows()).toEqual(['later', 'within']);
  });

  it('does not come from the application: a query runner ends only what it has started', async () => {
    const { dataSource } = database;
    await database.transact(async ({ manager }) => {
      const runner = dataSource.createQueryRunner();
      await manager.save(Row, { name: 'first' });
      await expect(runner.commitTransaction()).rejects.toThrow(/not started/);
      await expect(manager.queryRunner!.rollbackTransaction()).rejects.toThrow(/not started/);
      await runner.release();
      await manager.queryRunner!.release();
      const other = dataSource.createQueryRunner();
      await other.query('SELECT 1');
      await (other as Partial<AsyncDisposable>)[Symbol.asyncDispose]?.();
      const client = (await dataSource.createQueryRunner().connect()) as {
        release(): void;
        end(): Promise<void>;
      };
      client.release();
      await client.end();
      await dataSource.getRepository(Row).save({ name: 'second' });
    }, 'ROLLBACK');
    expect(await database.rows()).toEqual([]);
  });

  it('is not needed for a query runner that is released before it commits', async () => {
    const { dataSource } = database;
    await database.transact(async () => {
      const runner = dataSource.createQueryRunner();
      await runner.startTransaction();
      await runner.manager.save(Row, { name: 'not committed' });
      await runner.release();
      await dataSource.getRepository(Row).save({ name: 'after' });
    });
    expect(await database.rows()).toEqual(['after']);
  });

  it('commits with a query runner that is disposed of, as TypeORM does', async () => {
    const { dataSource } = database;
    await database.transact(async () => {
      const runner = dataSource.createQueryRunner();
      await runner.startTransaction();
      await runner.manager.save(Row, { name: 'committed' });
      await runner[Symbol.asyncDispose]();
      expect(runner.isReleased).toBe(true);
    });
    expect(await database.rows()).toEqual(['committed']);
  });

  it('leaves the connection as it was: the next transaction of it knows nothing of this one', async () => {
    const one = await openDatabase(server.url, version, { poolSize: 1, synchronize: false });
    try {
      await one.transact(({ manager }) => manager.transaction((inner) => inner.save(Row, { name: 'a' })));
      await one.transact(() => one.dataSource.getRepository(Row).save({ name: 'b' }));
      await one.dataSource.transaction((manager) => manager.save(Row, { name: 'c' }));
      expect(await one.rows()).toEqual(['a', 'b', 'c']);
    } finally {
      await one.close();
    }
  });
});
