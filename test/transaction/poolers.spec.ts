import { randomUUID } from 'node:crypto';
import { DataSource } from 'typeorm';
import { recordId } from '../../lib/core/record';
import type { Transaction } from '../../lib/core/transaction';
import { noEncryption } from '../../lib/outcome/outcome-cipher';
import { applicationPool } from '../../lib/store/postgres/connection/pool';
import { PostgresConnection } from '../../lib/store/postgres/connection/postgres.connection';
import { PostgresStore } from '../../lib/store/postgres/postgres.store';
import { Transactions } from '../../lib/transaction/transactions';
import { startPgBouncer, startPostgres, type RunningPostgres, type RunningServer } from '../../servers';
import { migrated } from '../support/database';

const TABLE = 'idempotency_cache';

/** An application with one connection to the pooler. */
class Application {
  private constructor(
    readonly dataSource: DataSource,
    private readonly transactions: Transactions,
  ) {}

  static async start(port: number, connection: PostgresConnection): Promise<Application> {
    const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
    const dataSource = await new DataSource({ type: 'postgres', url, poolSize: 1 }).initialize();
    const store = new PostgresStore(connection, { table: TABLE, tableName: TABLE }, { retention: 60_000 });
    const find = store.find.bind(store);
    const transactions = new Transactions(dataSource, connection, {
      table: TABLE,
      cipher: noEncryption,
      retention: 60_000,
      timeout: 5_000,
      preparedStatements: true,
      maxQueued: 1,
      find,
      findInPostgres: find,
      completed: () => undefined,
    });
    return new Application(dataSource, transactions);
  }

  async begin(): Promise<Transaction> {
    const begun = await this.transactions.begin({
      id: recordId('scope', randomUUID()),
      fingerprint: 'ab'.repeat(32),
      policy: { isolation: undefined, timeout: 30_000, maxConcurrent: undefined },
      name: 'Route.handler',
      deadline: performance.now() + 5_000,
    });
    if (begun.kind !== 'begun') throw new Error(begun.kind);
    await begun.transaction.run(() => Promise.resolve());
    return begun.transaction;
  }
}

describe('a pooler that lends another session for each transaction', () => {
  let postgres: RunningPostgres;
  let pgbouncer: RunningServer;
  let connection: PostgresConnection;
  let applications: Application[];

  beforeAll(async () => {
    postgres = await startPostgres();
    const setup = await migrated(postgres.url);
    connection = new PostgresConnection(applicationPool(setup), { timeout: 5_000, poolSize: 4 });
    await setup.destroy();
    pgbouncer = await startPgBouncer(postgres.port, { poolSize: 2 });
    applications = await Promise.all([1, 2, 3].map(() => Application.start(pgbouncer.port, connection)));
  });
  afterAll(async () => {
    await Promise.all(applications.map(({ dataSource }) => dataSource.destroy()));
    await connection.close();
    await pgbouncer.stop();
    await postgres.stop();
  });

  it('commits in one that has prepared what begins a transaction, and not what ends it', async () => {
    const [one, other, third] = applications as [Application, Application, Application];
    const complete = (transaction: Transaction): Promise<unknown> =>
      transaction.complete({ kind: 'response', status: 201, headers: [], body: Buffer.from('x') });
    expect(await complete(await one.begin())).toEqual({ recorded: true });
    const first = await other.begin();
    const second = await third.begin();
    await second.rollBack();
    // The one session is taken, and the other has seen a begin alone.
    const transaction = await one.begin();
    expect(await complete(transaction)).toEqual({ recorded: true });
    await first.rollBack();
  });
});
