import { Client } from 'pg';
import { recordId } from '../../lib/core/record';
import type { BeginResult } from '../../lib/core/transaction';
import { noEncryption } from '../../lib/outcome/outcome-cipher';
import { locksOf } from '../../lib/transaction/lock';
import { ARE_FREE, TRY_LOCK } from '../../lib/transaction/statements';
import { Transactions } from '../../lib/transaction/transactions';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import { freshDatabases } from '../support/fresh-databases';
import type { Instance, InstanceOptions } from '../support/postgres-store';

const WAITING = `SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`;

describe('the lock of a key', () => {
  const databases = freshDatabases();
  const id = recordId('scope', 'key');
  const clients: Client[] = [];
  let transactions: Transactions;
  let store: Instance['store'];
  let dataSource: Instance['dataSource'];

  const open = async (options: InstanceOptions = {}): Promise<void> => {
    const instance = await databases.open(options);
    ({ dataSource } = instance);
    store = instance.store;
    transactions = new Transactions(dataSource, instance.connection, {
      table: 'idempotency_cache',
      cipher: noEncryption,
      retention: 60_000,
      timeout: 5_000,
      preparedStatements: true,
      maxQueued: 1,
      find: (wanted) => store.find(wanted),
      findInPostgres: (wanted) => store.find(wanted),
      completed: () => undefined,
    });
  };
  beforeEach(() => open());
  const begin = (): Promise<BeginResult> =>
    transactions.begin({
      id,
      fingerprint: 'ab'.repeat(32),
      policy: { isolation: undefined, timeout: 600_000, maxConcurrent: undefined },
      name: 'Route.handler',
      deadline: performance.now() + 5_000,
    });
  const rolledBack = async (result: BeginResult): Promise<BeginResult['kind']> => {
    if (result.kind === 'begun') await result.transaction.rollBack();
    return result.kind;
  };
  /** A statement of another process that has done its work, and is still under way. */
  const underWay = async (text: string, values: unknown[]): Promise<() => Promise<unknown>> => {
    const client = new Client({ connectionString: databases.url });
    clients.push(client);
    await client.connect();
    await client.query('BEGIN');
    await client.query(text, values);
    return () => client.query('COMMIT');
  };
  afterEach(() => Promise.all(clients.splice(0).map((client) => client.end())));

  it('is had by a request that meets one which only asks whether it is free', async () => {
    const { held } = locksOf(id);
    const answered = await underWay(ARE_FREE, [`{${held}}`]);
    const beginning = begin();
    await eventually(async () => expect(await sql(databases.url, WAITING)).toHaveLength(1));
    await answered();
    expect(await rolledBack(await beginning)).toBe('begun');
  });

  it('is seen by one that asks, and by one that meets another who asks', async () => {
    const result = await begin();
    expect(await transactions.isLocked(id)).toBe(true);
    await underWay(ARE_FREE, [`{${locksOf(id).held}}`]);
    expect(await transactions.isLocked(id)).toBe(true);
    await rolledBack(result);
    expect(await transactions.isLocked(id)).toBe(false);
  });

  it('does not keep a record from a retry, where another retry has it to read the same', async () => {
    const first = await begin();
    if (first.kind !== 'begun') throw new Error(first.kind);
    await first.transaction.run(() => Promise.resolve());
    await first.transaction.complete({ kind: 'response', status: 201, headers: [], body: Buffer.from('1') });
    const { key, held } = locksOf(id);
    await underWay(TRY_LOCK, [key, held]);
    expect(await begin()).toMatchObject({ kind: 'standing', record: { state: 'completed' } });
  });

  it('is free again where the application has given up a statement that Postgres still works on', async () => {
    await open({ dataSource: { extra: { query_timeout: 1_000 } } });
    const result = await begin();
    if (result.kind !== 'begun') throw new Error(result.kind);
    const { transaction } = result;
    const sleeping = transaction.run(() => dataSource.query<unknown>('SELECT pg_sleep(600)'));
    await expect(sleeping).rejects.toThrow('Query read timeout');
    await transaction.rollBack();
    await eventually(async () => expect(await transactions.isLocked(id)).toBe(false));
  });
});
