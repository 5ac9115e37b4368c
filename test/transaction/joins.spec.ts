import type { DataSource, Repository } from 'typeorm';
import { outside, type AmbientTransaction } from '../../lib/transaction/ambient';
import { startPostgres, type RunningPostgres } from '../../servers';
import { openDatabase, Row, VERSIONS, type Database } from './harness';

interface Within {
  readonly ActiveRow: Database['ActiveRow'];
  readonly dataSource: DataSource;
  readonly repository: Repository<Row>;
  readonly transaction: AmbientTransaction;
}

const insert = `INSERT INTO "row" VALUES ('a')`;

/** Each way to write one row. */
const WAYS: Record<string, (within: Within) => Promise<unknown>> = {
  'a repository': ({ repository }) => repository.save({ name: 'a' }),
  "a repository's insert": ({ repository }) => repository.insert({ name: 'a' }),
  'a repository of the DataSource': ({ dataSource }) => dataSource.getRepository(Row).save({ name: 'a' }),
  'an entity that saves itself': ({ ActiveRow }) => Object.assign(new ActiveRow(), { name: 'a' }).save(),
  'an extended repository': ({ repository }) =>
    repository
      .extend({
        add(this: Repository<Row>) {
          return this.save({ name: 'a' });
        },
      })
      .add(),
  'the EntityManager': ({ dataSource }) => dataSource.manager.save(Row, { name: 'a' }),
  'the manager of the transaction': ({ transaction }) => transaction.manager.save(Row, { name: 'a' }),
  'a repository of that manager': ({ transaction }) =>
    transaction.manager.getRepository(Row).save({ name: 'a' }),
  'a query builder': ({ dataSource }) =>
    dataSource.createQueryBuilder().insert().into(Row).values({ name: 'a' }).execute(),
  'a query builder with a transaction': ({ repository }) =>
    repository.createQueryBuilder().insert().values({ name: 'a' }).useTransaction(true).execute(),
  'dataSource.query()': ({ dataSource }) => dataSource.query(insert),
  'manager.query()': ({ dataSource }) => dataSource.manager.query(insert),
  'repository.query()': ({ repository }) => repository.query(insert),
  'dataSource.transaction()': ({ dataSource }) =>
    dataSource.transaction((manager) => manager.save(Row, { name: 'a' })),
  'dataSource.transaction() with an isolation level': ({ dataSource }) =>
    dataSource.transaction('SERIALIZABLE', (manager) => manager.save(Row, { name: 'a' })),
  'a repository in dataSource.transaction()': ({ dataSource, repository }) =>
    dataSource.transaction(() => repository.save({ name: 'a' })),
  'manager.transaction() of the transaction': ({ transaction }) =>
    transaction.manager.transaction((manager) => manager.save(Row, { name: 'a' })),
  'a query runner': async ({ dataSource }) => {
    const runner = dataSource.createQueryRunner();
    try {
      await runner.query(insert);
    } finally {
      await runner.release();
    }
  },
  'a transaction of a query runner': async ({ dataSource }) => {
    const runner = dataSource.createQueryRunner();
    await runner.connect();
    await runner.startTransaction('READ COMMITTED');
    await runner.manager.save(Row, { name: 'a' });
    await runner.commitTransaction();
    await runner.release();
  },
  "a query runner's client": async ({ dataSource }) => {
    const runner = dataSource.createQueryRunner();
    const client = (await runner.connect()) as { query(text: string, done: (error?: Error) => void): void };
    try {
      await new Promise<void>((resolve, reject) =>
        client.query(insert, (error) => (error ? reject(error) : resolve())),
      );
    } finally {
      await runner.release();
    }
  },
};

describe.each(VERSIONS)('within a transaction over %s', (version) => {
  let server: RunningPostgres;
  let database: Database;
  let repository: Repository<Row>;
  beforeAll(async () => {
    server = await startPostgres();
    database = await openDatabase(server.url, version);
    repository = database.dataSource.getRepository(Row);
  });
  afterAll(async () => {
    await database.close();
    await server.stop();
  });
  afterEach(() => database.dataSource.query('DELETE FROM "row"'));

  const given = (transaction: AmbientTransaction): Within => ({
    ActiveRow: database.ActiveRow,
    dataSource: database.dataSource,
    repository,
    transaction,
  });

  it.each(Object.keys(WAYS))('a row is written by it: %s', async (way) => {
    await database.transact((transaction) => WAYS[way]!(given(transaction)), 'ROLLBACK');
    expect(await database.rows()).toEqual([]);
    await database.transact((transaction) => WAYS[way]!(given(transaction)));
    expect(await database.rows()).toEqual(['a']);
  });

  it.each(Object.keys(WAYS).filter((way) => !/the transaction|that manager/.test(way)))(
    'outside() leaves it, so that the row survives: %s',
    async (way) => {
      await database.transact((transaction) => outside(() => WAYS[way]!(given(transaction))), 'ROLLBACK');
      expect(await database.rows()).toEqual(['a']);
    },
  );

  it.each(Object.keys(WAYS))('is refused once the transaction has ended: %s', async (way) => {
    const late = await database.transact(async (transaction) => {
      const within = given(transaction);
      let end!: () => void;
      const ended = new Promise<void>((resolve) => (end = resolve));
      return { end, result: ended.then(() => WAYS[way]!(within)).catch((error: unknown) => error) };
    });
    late.end();
    expect(await late.result).toMatchObject({ code: 'transaction_ended' });
    expect(await database.rows()).toEqual([]);
  });
});
