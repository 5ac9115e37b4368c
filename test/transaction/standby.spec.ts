import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { recordId } from '../../lib/core/record';
import { noEncryption } from '../../lib/outcome/outcome-cipher';
import { applicationPool } from '../../lib/store/postgres/connection/pool';
import { PostgresConnection } from '../../lib/store/postgres/connection/postgres.connection';
import { PostgresStore } from '../../lib/store/postgres/postgres.store';
import { Transactions } from '../../lib/transaction/transactions';
import {
  startPostgres,
  startSynchronousStandby,
  type RunningPostgres,
  type RunningStandby,
} from '../../servers';
import { migrated, sql } from '../support/database';
import { eventually } from '../support/eventually';
import { claimRequest } from '../support/postgres-store';

const TABLE = 'idempotency_cache';
const TIMEOUT = 4_000;

const CLAIMED = `SELECT key FROM ${TABLE} WHERE key = $1`;

describe('a commit whose synchronous standby is away', () => {
  let primary: RunningPostgres;
  let standby: RunningStandby;
  let dataSource: DataSource;
  let connection: PostgresConnection;

  beforeAll(async () => {
    primary = await startPostgres();
    dataSource = await migrated(primary.url);
    standby = await startSynchronousStandby(primary);
    connection = new PostgresConnection(applicationPool(dataSource), { timeout: TIMEOUT, poolSize: 4 });
  });
  afterAll(async () => {
    await connection.close();
    await dataSource.destroy();
    await Promise.all([primary.stop(), standby.stop()]);
  });

  /** As a statement_timeout of the role does, or an operator. */
  async function cancelsTheWait(of: string): Promise<void> {
    const waiting = `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query ${of}`;
    await eventually(async () => expect(await sql(primary.url, waiting)).toHaveLength(1));
  }

  async function makesNoClaim(store: PostgresStore, key: string): Promise<void> {
    standby.kill('SIGSTOP');
    const refused = expect(store.claim(claimRequest(key))).rejects.toMatchObject({
      name: 'StoreUnavailableError',
      cause: expect.objectContaining({ name: 'UnconfirmedCommitError' }) as unknown,
    });
    await cancelsTheWait(`LIKE '%INSERT%'`);
    await refused;
    expect(await sql(primary.url, CLAIMED, [key])).toHaveLength(1);
    standby.kill('SIGCONT');
    await eventually(async () =>
      expect((await store.claim(claimRequest(`${key}, after that`))).claimed).toBe(true),
    );
  }

  it('makes no claim when its wait for the standby is cancelled, though the row is there', async () => {
    const store = new PostgresStore(connection, { table: TABLE, tableName: TABLE }, { retention: 60_000 });
    await makesNoClaim(store, 'key');
  });

  it('makes no claim either where the role hears no warnings, such as the one of that', async () => {
    const database = new URL(primary.url).pathname.slice(1);
    await sql(primary.url, `ALTER DATABASE "${database}" SET client_min_messages = error`);
    const quiet = new PostgresConnection(applicationPool(dataSource), { timeout: TIMEOUT, poolSize: 1 });
    try {
      const store = new PostgresStore(quiet, { table: TABLE, tableName: TABLE }, { retention: 60_000 });
      await makesNoClaim(store, 'quiet');
      const [setting] = await quiet.operation('check')('SHOW client_min_messages', []);
      expect(setting).toEqual({ client_min_messages: 'error' }); // nothing is left in the session
    } finally {
      await quiet.close();
      await sql(primary.url, `ALTER DATABASE "${database}" RESET client_min_messages`);
    }
  });

  it.each([
    ['', 'warning'],
    [', also where its handler has switched warnings off', 'error'],
  ])('is not taken for committed when its wait for the standby is cancelled%s', async (_, level) => {
    const store = new PostgresStore(connection, { table: TABLE, tableName: TABLE }, { retention: 60_000 });
    const find = store.find.bind(store);
    const transactions = new Transactions(dataSource, connection, {
      table: TABLE,
      cipher: noEncryption,
      retention: 60_000,
      timeout: TIMEOUT,
      preparedStatements: true,
      maxQueued: 1,
      find,
      findInPostgres: find,
      completed: () => undefined,
    });
    const id = recordId('scope', randomUUID());
    const begun = await transactions.begin({
      id,
      fingerprint: 'ab'.repeat(32),
      policy: { isolation: undefined, timeout: 30_000, maxConcurrent: undefined },
      name: 'Route.handler',
      deadline: performance.now() + 5_000,
    });
    if (begun.kind !== 'begun') throw new Error(begun.kind);
    const { transaction } = begun;
    await transaction.run(async () => {
      await dataSource.query(`SET LOCAL client_min_messages = ${level}`);
      return undefined;
    });
    standby.kill('SIGSTOP');
    const committing = transaction.complete({
      kind: 'response',
      status: 201,
      headers: [],
      body: Buffer.from('x'),
    });
    const refused = expect(committing).rejects.toMatchObject({ code: 'outcome_not_recorded' });
    await cancelsTheWait(`= 'COMMIT'`);
    await refused;
    standby.kill('SIGCONT');
    await eventually(async () => expect(await find(id)).toMatchObject({ token: transaction.claim.token }));
  });
});
