import { randomUUID } from 'node:crypto';
import { DataSource, type EntityManager } from 'typeorm';
import {
  addTransactionalDataSource,
  deleteDataSourceByName,
  initializeTransactionalContext,
  Propagation,
  runInTransaction,
  StorageDriver,
} from 'typeorm-transactional';
import { startPostgres, type RunningPostgres } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { sql } from '../support/database';

describe.each([
  ['leased', false],
  ['in a transaction', true],
])("work with its own key within a transaction of the application's own: %s", (_, transaction) => {
  let postgres: RunningPostgres;
  let app: TestApp;
  let dataSource: DataSource;
  let key: string;

  beforeAll(async () => {
    initializeTransactionalContext({ storageDriver: StorageDriver.ASYNC_LOCAL_STORAGE });
    postgres = await startPostgres();
    await sql(postgres.url, 'CREATE TABLE effect (note text)');
    app = await startApp({ databaseUrl: postgres.url });
    dataSource = app.app.get(DataSource);
    addTransactionalDataSource(dataSource);
  });
  afterAll(async () => {
    deleteDataSourceByName('default');
    await app.close();
    await postgres.stop();
  });
  beforeEach(() => (key = randomUUID()));

  const write = (manager: EntityManager, note = ''): Promise<unknown> =>
    manager.query('INSERT INTO effect (note) VALUES ($1)', [key + note]);
  const effects = async (): Promise<number> =>
    (await sql(postgres.url, 'SELECT FROM effect WHERE note = $1', [key])).length;
  const execute = (work: () => Promise<unknown>, each = key): Promise<unknown> =>
    app.service.execute(each, () => work().then(() => 'done'), { transaction });
  const method = (propagation: Propagation, work: () => Promise<unknown>): Promise<unknown> =>
    runInTransaction(work, { propagation });
  /** One that the application starts, and that fails after its work. */
  const failing = (work: (manager: EntityManager) => Promise<unknown>): Promise<never> =>
    dataSource.transaction(async (manager) => {
      await work(manager);
      throw new Error('failed');
    });

  const refused = {
    code: 'transaction_broken',
    message: expect.stringContaining('REQUIRES_NEW') as string,
  };

  it.each<[string, () => Promise<unknown>]>([
    ['its manager', () => failing((manager) => execute(() => write(manager)))],
    [
      'a savepoint of its manager',
      () => failing((manager) => execute(() => manager.transaction((inner) => write(inner)))),
    ],
    [
      'the manager of a savepoint',
      () => failing((manager) => manager.transaction((inner) => execute(() => write(inner)))),
    ],
    ['its query runner', () => failing(({ queryRunner }) => execute(() => write(queryRunner!.manager)))],
    ['an end of it', () => failing(({ queryRunner }) => execute(() => queryRunner!.commitTransaction()))],
    [
      'its manager after work within',
      () =>
        failing((manager) =>
          execute(async () => {
            await execute(() => write(dataSource.manager, 'inner'), `${key} inner`);
            await write(manager);
          }),
        ),
    ],
    [
      'the manager of work around it',
      () => execute(() => failing((manager) => execute(() => write(manager), `${key} inner`))),
    ],
    [
      'repositories in a method with @Transactional()',
      () => method(Propagation.REQUIRED, () => execute(() => write(dataSource.manager))),
    ],
    [
      'a method with @Transactional() that joins it',
      () =>
        method(Propagation.REQUIRED, () =>
          execute(() => method(Propagation.REQUIRED, () => write(dataSource.manager))),
        ),
    ],
  ])('refuses %s, which would be rolled back without its record', async (_name, act) => {
    await expect(act()).rejects.toMatchObject(refused);
    expect(await app.service.find(key)).toBeUndefined();
    expect(await effects()).toBe(0);
    expect(await execute(() => write(dataSource.manager))).toBe('done');
    expect(await effects()).toBe(1);
  });

  it.each<[string, () => Promise<unknown>]>([
    ['the DataSource', () => write(dataSource.manager)],
    ['a transaction of its own', () => dataSource.transaction((manager) => write(manager))],
  ])('keeps effect and record together although that transaction fails, over %s', async (_name, work) => {
    await expect(failing(() => execute(work))).rejects.toThrow('failed');
    expect(await execute(work)).toBe('done');
    expect(await effects()).toBe(1);
  });

  it('does so over a method with REQUIRES_NEW', async () => {
    const work = (): Promise<unknown> => method(Propagation.REQUIRES_NEW, () => write(dataSource.manager));
    const failed = method(Propagation.REQUIRED, async () => {
      await execute(work);
      throw new Error('failed');
    });
    await expect(failed).rejects.toThrow('failed');
    expect(await execute(work)).toBe('done');
    expect(await effects()).toBe(1);
  });

  it('leaves that transaction as it was', async () => {
    await dataSource.transaction(async (manager) => {
      await expect(execute(() => manager.transaction((inner) => write(inner)))).rejects.toMatchObject(
        refused,
      );
      await manager.transaction((inner) => write(inner));
    });
    expect(await effects()).toBe(1);
  });

  if (!transaction) {
    it('lets a transaction go on that the work has begun', async () => {
      const runner = dataSource.createQueryRunner();
      await execute(() => runner.startTransaction());
      await write(runner.manager);
      await runner.commitTransaction();
      await runner.release();
      expect(await effects()).toBe(1);
    });
  }
});
