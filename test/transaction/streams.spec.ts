import type { Readable } from 'node:stream';
import type { DataSource } from 'typeorm';
import { startPostgres, type RunningPostgres } from '../../servers';
import { openDatabase, Row, VERSIONS, type Database } from './harness';

const MANY = 1_000;
const numbers = `SELECT generate_series(1, ${MANY}) AS number`;

describe.each(VERSIONS)('a stream within a transaction over %s', (version) => {
  let server: RunningPostgres;
  let database: Database;
  let dataSource: DataSource;
  beforeAll(async () => {
    server = await startPostgres();
    database = await openDatabase(server.url, version);
    ({ dataSource } = database);
  });
  afterAll(async () => {
    await database.close();
    await server.stop();
  });
  afterEach(() => dataSource.query('DELETE FROM "row"'));

  it('reads what the transaction has written', async () => {
    const read = await database.transact(async () => {
      const rows = dataSource.getRepository(Row);
      await rows.save([{ name: 'a' }, { name: 'b' }]);
      const stream = await rows.createQueryBuilder('row').orderBy('row.name').stream();
      const found: unknown[] = [];
      for await (const row of stream) found.push(row);
      return found;
    }, 'ROLLBACK');
    expect(read).toEqual([{ row_name: 'a' }, { row_name: 'b' }]);
  });

  it('lets each of its rows be answered by a query', async () => {
    const read = await database.transact(async () => {
      const runner = dataSource.createQueryRunner();
      const found: number[] = [];
      for await (const { number } of (await runner.stream(numbers)) as AsyncIterable<{ number: number }>) {
        await dataSource.getRepository(Row).insert({ name: String(number) });
        found.push(number);
      }
      await runner.release();
      return found;
    });
    expect(read).toEqual(Array.from({ length: MANY }, (_, index) => index + 1));
    expect(await database.rows()).toHaveLength(MANY);
  });

  it('is not read into memory while nothing else needs the connection', async () => {
    await database.transact(async () => {
      const stream = (await dataSource.createQueryRunner().stream(numbers)) as Readable;
      const rows = stream[Symbol.asyncIterator]();
      await rows.next();
      expect(stream.readableLength).toBeLessThan(200);
      await rows.return?.();
    });
  });

  it('waits for its turn, and ends where its reader stops', async () => {
    await database.transact(async () => {
      const before = dataSource.query(`INSERT INTO "row" VALUES ('a')`);
      const stream = await dataSource.getRepository(Row).createQueryBuilder('row').stream();
      for await (const row of stream) {
        expect(row).toEqual({ row_name: 'a' });
        break;
      }
      await before;
      await dataSource.query(`INSERT INTO "row" VALUES ('b')`);
    });
    expect(await database.rows()).toEqual(['a', 'b']);
  });

  it('that is still open ends with the transaction', async () => {
    const { stream, error } = await database.transact(async () => {
      await dataSource.getRepository(Row).save({ name: 'a' });
      const stream = (await dataSource.createQueryRunner().stream(numbers)) as Readable;
      const error = new Promise((resolve) => stream.once('error', resolve));
      await stream[Symbol.asyncIterator]().next();
      return { stream, error };
    });
    expect(await error).toMatchObject({ code: 'transaction_ended' });
    expect(stream.destroyed).toBe(true);
    expect(await database.rows()).toEqual(['a']);
  });

  it('that nothing reads or watches does not keep the transaction from its end', async () => {
    await database.transact(async () => {
      await dataSource.getRepository(Row).save({ name: 'a' });
      await dataSource.createQueryRunner().stream(numbers);
      await dataSource.createQueryRunner().stream(numbers);
    });
    expect(await database.rows()).toEqual(['a']);
  });

  it('that fails tells its reader, and gives the connection back', async () => {
    const failed = await database.transact(async () => {
      const stream = (await dataSource.createQueryRunner().stream('SELECT 1 / 0')) as Readable;
      const error = await stream.toArray().catch((reason: unknown) => reason);
      await expect(dataSource.query('SELECT 1')).rejects.toThrow(/aborted/);
      return error;
    }, 'ROLLBACK');
    expect(failed).toMatchObject({ message: 'division by zero' });
  });
});
