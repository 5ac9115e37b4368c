import type { EntitySubscriberInterface } from 'typeorm';
import { Ambient, outside } from '../../lib/transaction/ambient';
import { startPostgres, type RunningPostgres } from '../../servers';
import { openDatabase, Row, transactions, VERSIONS, type Database } from './harness';

describe.each(VERSIONS)('what surrounds a transaction over %s', (version) => {
  let server: RunningPostgres;
  const opened: Database[] = [];
  const open = async (
    options: Parameters<typeof openDatabase>[2] = {},
    url = server.url,
  ): Promise<Database> => {
    const database = await openDatabase(url, version, options);
    opened.push(database);
    return database;
  };
  beforeAll(async () => {
    server = await startPostgres();
  });
  afterEach(async () => {
    for (const { dataSource } of opened) await dataSource.query('DELETE FROM "row"');
    await Promise.all(opened.splice(0).map((database) => database.close()));
  });
  afterAll(() => server.stop());

  describe('subscribers', () => {
    const told: string[] = [];
    class Subscriber implements EntitySubscriberInterface<Row> {
      listenTo = (): typeof Row => Row;
      afterInsert: EntitySubscriberInterface<Row>['afterInsert'] = async ({ manager, entity }) => {
        if (entity.name.startsWith('audit')) return;
        await manager.insert(Row, { name: `audit ${entity.name}` });
      };
      beforeTransactionCommit: EntitySubscriberInterface['beforeTransactionCommit'] = async ({ manager }) => {
        told.push('before commit');
        await manager.query(`INSERT INTO "row" VALUES ('before commit ${told.length}')`);
      };
      afterTransactionCommit: EntitySubscriberInterface['afterTransactionCommit'] = async ({ manager }) => {
        told.push('after commit');
        await manager.query(`INSERT INTO "row" VALUES ('after commit ${told.length}')`);
      };
    }
    const subscribed = async (): Promise<Database> => {
      const database = await open();
      database.dataSource.subscribers.push(new Subscriber());
      return database;
    };
    beforeEach(() => (told.length = 0));

    it('write in the transaction', async () => {
      const { dataSource, transact, rows } = await subscribed();
      await transact(() => dataSource.getRepository(Row).save({ name: 'a' }), 'ROLLBACK');
      expect(await rows()).toEqual([]);
      await transact(() => dataSource.getRepository(Row).save({ name: 'a' }));
      expect(await rows()).toEqual(['a', 'audit a']);
      expect(told).toEqual([]);
    });

    it('are told of a transaction within it', async () => {
      const { dataSource, transact, rows } = await subscribed();
      await transact(() => dataSource.transaction((manager) => manager.insert(Row, { name: 'a' })));
      expect(told).toEqual(['before commit', 'after commit']);
      expect(await rows()).toEqual(['a', 'after commit 2', 'audit a', 'before commit 1']);
    });

    it('are told of the transaction: what they do before the commit is in it, and what they do after it is not', async () => {
      const { transact, rows } = await subscribed();
      const transaction = await transact(async (entered) => {
        await entered.notify('BeforeTransactionCommit');
        return entered;
      }, 'ROLLBACK');
      await transaction.notify('AfterTransactionCommit');
      expect(told).toEqual(['before commit', 'after commit']);
      expect(await rows()).toEqual(['after commit 2']);
    });
  });

  it("TypeORM's log has the queries, the slow and the failed ones", async () => {
    const log: string[] = [];
    const { dataSource, transact } = await open({
      maxQueryExecutionTime: 20,
      logging: true,
      logger: {
        logQuery: (query: string) => void log.push(query),
        logQueryError: (_: unknown, query: string) => void log.push(`failed: ${query}`),
        logQuerySlow: (_: number, query: string) => void log.push(`slow: ${query}`),
        ...Object.fromEntries(
          ['logSchemaBuild', 'logMigration', 'log'].map((name) => [name, () => undefined]),
        ),
      } as never,
    });
    log.length = 0;
    await transact(async () => {
      await dataSource.query('SELECT pg_sleep(0.03)');
      await dataSource.query('SELECT no').catch(() => undefined);
    }, 'ROLLBACK');
    expect(log).toEqual([
      'SELECT pg_sleep(0.03)',
      'slow: SELECT pg_sleep(0.03)',
      'SELECT no',
      'failed: SELECT no',
    ]);
  });

  it('reads go to the transaction, also those that would go to a replica', async () => {
    const replica = await server.createDatabase();
    await open({}, replica);
    const { dataSource, transact } = await open({
      url: undefined,
      replication: { master: { url: server.url }, slaves: [{ url: replica }] },
    });
    const read = async (): Promise<unknown> => [
      await dataSource.getRepository(Row).find(),
      await dataSource.createQueryRunner('slave').query('SELECT name FROM "row"'),
    ];
    await transact(async () => {
      await dataSource.getRepository(Row).save({ name: 'a' });
      expect(await read()).toEqual([[{ name: 'a' }], [{ name: 'a' }]]);
      expect(await outside(() => dataSource.getRepository(Row).find())).toEqual([]);
    });
    expect(await dataSource.getRepository(Row).find()).toEqual([]); // the replica has none
  });

  it('another DataSource is another matter, and may have a transaction within this one', async () => {
    const [one, other] = [await open(), await open({}, await server.createDatabase())];
    await one.transact(async () => {
      await one.dataSource.getRepository(Row).save({ name: 'one' });
      await other.dataSource.getRepository(Row).save({ name: 'alone' });
      await other.transact(async () => {
        await one.dataSource.getRepository(Row).save({ name: 'one from within' });
        await one.dataSource.transaction((manager) => manager.insert(Row, { name: 'nested one' }));
        await other.dataSource.getRepository(Row).save({ name: 'other' });
      });
      await one.dataSource.getRepository(Row).save({ name: 'one after it' });
    }, 'ROLLBACK');
    expect([await one.rows(), await other.rows()]).toEqual([[], ['alone', 'other']]);
  });

  it('a transaction of its own within it, as another key has, commits alone', async () => {
    const { dataSource, transact, rows } = await open();
    await transact(async ({ manager }) => {
      await dataSource.getRepository(Row).save({ name: 'outer' });
      await transact(async () => {
        await dataSource.getRepository(Row).save({ name: 'inner' });
        const lost = manager.insert(Row, { name: 'outer from within' }); // a retry of the other key does not come here
        await expect(lost).rejects.toThrow('in work with its own key');
      });
      await manager.insert(Row, { name: 'outer, too' });
      await dataSource.getRepository(Row).save({ name: 'outer after it' });
    }, 'ROLLBACK');
    expect(await rows()).toEqual(['inner']);
  });

  it('a manager of it is refused outside, also for a transaction within it, which undoes nothing of it', async () => {
    const { dataSource, transact, rows } = await open();
    await transact(() =>
      dataSource.transaction(async (manager) => {
        await manager.insert(Row, { name: 'before' });
        const refused = [
          outside(() => manager.insert(Row, { name: 'outside' })),
          outside(() => manager.transaction((nested) => nested.insert(Row, { name: 'outside' }))),
          outside(() => manager.queryRunner?.commitTransaction()),
        ];
        for (const each of refused) await expect(each).rejects.toThrow('is used in outside()');
        await manager.insert(Row, { name: 'after' });
      }),
    );
    expect(await rows()).toEqual(['after', 'before']);
  });

  it('requests at the same time have each its own transaction', async () => {
    const { dataSource, transact, rows } = await open({ poolSize: 5 });
    await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        transact(
          () =>
            dataSource.transaction(() =>
              dataSource.getRepository(Row).save({ name: `row ${index % 2} ${index}` }),
            ),
          index % 2 ? 'ROLLBACK' : 'COMMIT',
        ),
      ),
    );
    expect((await rows()).filter((name) => name.startsWith('row 0'))).toHaveLength(10);
    expect(await rows()).toHaveLength(10);
  });

  it('a DataSource that is used twice is changed once', async () => {
    const { dataSource, ambient, transact } = await open();
    expect(ambient).toBeDefined();
    const changed = dataSource.createQueryRunner;
    const second = new Ambient(dataSource);
    expect(dataSource.createQueryRunner).toBe(changed);
    for (const each of [transact, transactions(second).transact])
      await each(() => dataSource.getRepository(Row).save({ name: 'a' }), 'ROLLBACK');
    expect(await dataSource.getRepository(Row).find()).toEqual([]);
    await dataSource.getRepository(Row).save({ name: 'b' });
    expect(await dataSource.getRepository(Row).find()).toHaveLength(1);
  });

  it('a DataSource that another library has changed since is left as that has it', async () => {
    const { dataSource, ambient, transact } = await open();
    expect(ambient).toBeDefined();
    const ours = dataSource.createQueryRunner.bind(dataSource);
    let asked = 0;
    dataSource.createQueryRunner = (mode) => {
      asked++;
      return ours(mode);
    };
    await transact(() => dataSource.getRepository(Row).save({ name: 'a' }), 'ROLLBACK');
    expect(await dataSource.getRepository(Row).find()).toEqual([]);
    expect(asked).toBeGreaterThan(1);
  });
});
