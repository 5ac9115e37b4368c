import { AsyncResource } from 'node:async_hooks';
import { setImmediate } from 'node:timers/promises';
import type { DataSource, QueryRunner } from 'typeorm';
import { startPostgres, type RunningPostgres } from '../../servers';
import { gate } from '../support/gate';
import { openDatabase, Row, VERSIONS, type Database } from './harness';

/** Starts a transaction for its caller, after it has waited. */
class UnitOfWork {
  runner!: QueryRunner;

  constructor(private readonly dataSource: DataSource) {}

  async begin(): Promise<void> {
    this.runner = this.dataSource.createQueryRunner();
    await this.runner.connect();
    await this.runner.startTransaction();
  }
}

describe.each(VERSIONS)('a transaction within a transaction over %s', (version) => {
  let server: RunningPostgres;
  let database: Database;
  let dataSource: DataSource;
  const statements: string[] = [];
  let onQuery: (query: string) => void = () => undefined;
  beforeAll(async () => {
    server = await startPostgres();
    database = await openDatabase(server.url, version, {
      poolSize: 1,
      logging: true,
      logger: {
        logQuery: (query: string) => {
          statements.push(query);
          onQuery(query);
        },
        ...Object.fromEntries(
          ['logQueryError', 'logQuerySlow', 'logSchemaBuild', 'logMigration', 'log'].map((name) => [
            name,
            () => undefined,
          ]),
        ),
      } as never,
    });
    ({ dataSource } = database);
  });
  afterAll(async () => {
    await database.close();
    await server.stop();
  });
  beforeEach(async () => {
    await dataSource.query('DELETE FROM "row"');
    statements.length = 0;
    onQuery = () => undefined;
  });

  it('lets one go on after a failed statement', async () => {
    await database.transact(async () => {
      const rows = dataSource.getRepository(Row);
      await rows.insert({ name: 'a' });
      const again = dataSource.transaction(() => rows.insert({ name: 'a' }));
      await expect(again).rejects.toThrow(/duplicate key/);
      await rows.insert({ name: 'b' });
    });
    expect(await database.rows()).toEqual(['a', 'b']);
  });

  it('is needed for that: a failed statement outside of one fails the transaction', async () => {
    await database.transact(async () => {
      const rows = dataSource.getRepository(Row);
      await rows.insert({ name: 'a' });
      await expect(rows.insert({ name: 'a' })).rejects.toThrow(/duplicate key/);
      await expect(rows.insert({ name: 'b' })).rejects.toThrow(/current transaction is aborted/);
    });
    expect(await database.rows()).toEqual([]);
  });

  it('leaves no savepoint behind when it is rolled back', async () => {
    await database.transact(async () => {
      await dataSource.transaction(() => Promise.reject(new Error('no'))).catch(() => undefined);
    });
    expect(statements).toEqual([
      'SAVEPOINT typeorm_1',
      'ROLLBACK TO SAVEPOINT typeorm_1',
      'RELEASE SAVEPOINT typeorm_1',
    ]);
  });

  it('costs no savepoint where TypeORM would start one for a single save', async () => {
    await database.transact(() => dataSource.getRepository(Row).save([{ name: 'a' }, { name: 'b' }]));
    expect(statements.map((text) => text.split(' ')[0])).toEqual(['SELECT', 'INSERT']);
  });

  it('is not where its siblings are that were started in the same tick', async () => {
    const { pass, reached, open } = gate();
    await database.transact(async () => {
      const failing = dataSource.transaction(async () => {
        await pass();
        throw new Error('no');
      });
      const sibling = reached().then(() => dataSource.query(`INSERT INTO "row" VALUES ('sibling')`));
      await reached();
      await setImmediate(); // where nothing keeps it, the sibling's statement is sent by now
      open();
      await expect(failing).rejects.toThrow('no');
      await sibling;
    });
    expect(await database.rows()).toEqual(['sibling']);
  });

  it('lets what comes while it ends go on in the transaction around it, one after another', async () => {
    const late: Promise<unknown>[] = [];
    let sent: Promise<void> | undefined;
    await database.transact(async () => {
      const around = AsyncResource.bind((work: () => Promise<unknown>) => late.push(work()));
      await dataSource.transaction(async (manager) => {
        await manager.insert(Row, { name: 'within' });
        const inside = AsyncResource.bind((work: () => Promise<unknown>) => late.push(work()));
        onQuery = (query) => {
          if (!query.startsWith('RELEASE')) return;
          onQuery = () => undefined;
          const write = (name: string) => () =>
            dataSource.transaction(async (nested) => {
              await nested.insert(Row, { name });
              if (name === 'undone') throw new Error('undone');
            });
          // The statement is on its way then, and its answer not yet there.
          sent = setImmediate().then(() => {
            inside(write('kept'));
            around(write('undone'));
            inside(write('kept too'));
          });
        };
      });
      await sent;
      await Promise.allSettled(late);
    });
    expect(late).toHaveLength(3);
    expect(await database.rows()).toEqual(['kept', 'kept too', 'within']);
  });

  it('may be started by a helper that has waited before it', async () => {
    await database.transact(async () => {
      const unit = new UnitOfWork(dataSource);
      await unit.begin();
      await unit.runner.manager.save(Row, { name: 'a' });
      await unit.runner.manager.transaction((inner) => inner.save(Row, { name: 'b' }));
      await unit.runner.rollbackTransaction();
      await unit.begin();
      await unit.runner.manager.save(Row, { name: 'c' });
      await unit.runner.commitTransaction();
      await dataSource.getRepository(Row).save({ name: 'd' });
    });
    expect(await database.rows()).toEqual(['c', 'd']);
  });

  it('may be used where a library has lost the context', async () => {
    const lost = new AsyncResource('Lost');
    await database.transact(async ({ manager }) => {
      await lost.runInAsyncScope(() => manager.save(Row, { name: 'a' }));
      await manager
        .transaction(async (inner) => {
          await lost.runInAsyncScope(() => inner.save(Row, { name: 'b' }));
          await lost.runInAsyncScope(() => inner.transaction((third) => third.save(Row, { name: 'c' })));
          throw new Error('no');
        })
        .catch(() => undefined);
      await lost.runInAsyncScope(() => manager.transaction((inner) => inner.save(Row, { name: 'd' })));
    });
    expect(await database.rows()).toEqual(['a', 'd']);
  });

  it('may use an injected repository between the start and the end of a query runner', async () => {
    await database.transact(async () => {
      const runner = dataSource.createQueryRunner();
      await runner.startTransaction();
      await dataSource.getRepository(Row).save({ name: 'a' });
      await runner.rollbackTransaction();
      await dataSource.getRepository(Row).save({ name: 'b' });
      await runner.startTransaction();
      await dataSource.getRepository(Row).save({ name: 'c' });
      await runner.commitTransaction();
      await runner.release();
    });
    expect(await database.rows()).toEqual(['b', 'c']);
  });
});
