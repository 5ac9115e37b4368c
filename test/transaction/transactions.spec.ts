import { randomUUID } from 'node:crypto';
import { DataSource } from 'typeorm';
import { OverloadedError, type IdempotencyError } from '../../lib/core/errors';
import { recordId, type Claim, type Outcome, type RecordId } from '../../lib/core/record';
import type { BeginRequest, BeginResult, Transaction } from '../../lib/core/transaction';
import { noEncryption } from '../../lib/outcome/outcome-cipher';
import { applicationPool } from '../../lib/store/postgres/connection/pool';
import { PostgresConnection } from '../../lib/store/postgres/connection/postgres.connection';
import { nameOf } from '../../lib/store/postgres/connection/statement-name';
import { PostgresStore } from '../../lib/store/postgres/postgres.store';
import { Transactions } from '../../lib/transaction/transactions';
import { startPostgres, type RunningPostgres } from '../../servers';
import { Link, type Ruling } from '../faults/rig/link';
import { migrated, sql } from '../support/database';
import { eventually } from '../support/eventually';

const TIMEOUT = 1_000;
const RETENTION = 60_000;
const FINGERPRINT = 'ab'.repeat(32);
const OUTCOME: Outcome = { kind: 'response', status: 201, headers: [['X', 'y']], body: Buffer.from('body') };

/** Tells the last round trip of a transaction from the first. */
const reader = {
  read: (chunk: Buffer): string[] => [
    'bytes',
    ...['BEGIN', 'COMMIT']
      .filter((text) => chunk.includes(nameOf(text)) || chunk.includes(`${text}\0`))
      .map((text) => text.toLowerCase()),
  ],
};

/** Of the DataSource, and the round trips of an empty transaction over it. */
const CLIENTS: [name: string, options: Record<string, unknown>, roundTrips: number][] = [
  ['pg', {}, 2],
  ['the oldest pg', { driver: jest.requireActual<object>('pg-oldest') }, 2],
  ['pg in its pipeline mode, which takes whole queries only', { extra: { pipeline: true } }, 6],
];

describe.each(CLIENTS)('Transactions over %s', (_, options, roundTrips) => {
  let postgres: RunningPostgres;
  let link: Link;
  let dataSource: DataSource;
  let connection: PostgresConnection;
  let store: PostgresStore;
  let transactions: Transactions;
  let id: RecordId;
  let note: string;

  beforeAll(async () => {
    postgres = await startPostgres();
    const setup = await migrated(postgres.url);
    await setup.query('CREATE TABLE effect (note text)');
    await setup.destroy();
  });
  afterAll(() => postgres.stop());

  beforeEach(async () => {
    const direct = new URL(postgres.url);
    link = await Link.open(Number(direct.port), () => reader, {
      mode: () => undefined,
      ruling: () => undefined,
    });
    const through = new URL(postgres.url);
    through.hostname = '127.0.0.1';
    through.port = String(link.port);
    dataSource = await new DataSource({
      type: 'postgres',
      url: through.href,
      poolSize: 4,
      ...options,
    }).initialize();
    const own = await new DataSource({ type: 'postgres', url: postgres.url }).initialize();
    connection = new PostgresConnection(applicationPool(own), { timeout: TIMEOUT, poolSize: 4 });
    await own.destroy();
    store = new PostgresStore(
      connection,
      { table: 'idempotency_cache', tableName: 'idempotency_cache' },
      { retention: RETENTION },
    );
    transactions = new Transactions(dataSource, connection, {
      table: 'idempotency_cache',
      cipher: noEncryption,
      retention: RETENTION,
      timeout: TIMEOUT,
      preparedStatements: true,
      maxQueued: 1,
      find: (wanted) => store.find(wanted),
      findInPostgres: (wanted) => store.find(wanted),
      completed: () => undefined,
    });
    id = recordId('scope', randomUUID());
    note = randomUUID();
  });
  afterEach(async () => {
    link.unwatch();
    await connection.close();
    await dataSource.destroy().catch(() => undefined);
    await link.close();
  });

  const request = (more: Partial<BeginRequest> = {}): BeginRequest => ({
    id,
    fingerprint: FINGERPRINT,
    policy: { isolation: undefined, timeout: 10_000, maxConcurrent: undefined },
    name: 'Route.handler',
    deadline: performance.now() + 5_000,
    ...more,
  });
  const begun = (result: BeginResult): Transaction => {
    if (result.kind !== 'begun') throw new Error(`not begun: ${result.kind}`);
    return result.transaction;
  };
  const begin = async (more: Partial<BeginRequest> = {}): Promise<Transaction> =>
    begun(await transactions.begin(request(more)));
  const write = (transaction: Transaction): Promise<unknown> =>
    transaction.run(() => dataSource.query('INSERT INTO effect (note) VALUES ($1)', [note]));
  const effects = async (): Promise<number> =>
    (await sql(postgres.url, 'SELECT 1 FROM effect WHERE note = $1', [note])).length;
  const lease = (): Promise<Claim> =>
    store
      .claim({
        id,
        fingerprint: FINGERPRINT,
        token: randomUUID(),
        lease: 60_000,
        takeOver: true,
        bypassCache: true,
        durability: 'durable',
      })
      .then((result) => {
        if (!result.claimed) throw new Error('not claimed');
        return result.claim;
      });
  const lapse = (): Promise<unknown> =>
    sql(
      postgres.url,
      `UPDATE idempotency_cache SET lease_until = now() - interval '1 s' WHERE state = 'in_progress'`,
    );
  const codeOf = (work: Promise<unknown>): Promise<unknown> =>
    work.then(
      (value) => value,
      (error: unknown) => (error as IdempotencyError).code,
    );
  const nothingIsHeld = (): Promise<void> =>
    eventually(async () => {
      const { master } = dataSource.driver as unknown as {
        master: { totalCount: number; idleCount: number };
      };
      expect(master.idleCount).toBe(master.totalCount);
      expect(await sql(postgres.url, `SELECT FROM pg_locks WHERE locktype = 'advisory'`)).toEqual([]);
    });

  it('commits the effects together with the outcome', async () => {
    const transaction = await begin();
    await write(transaction);
    expect([await effects(), await store.find(id)]).toEqual([0, undefined]);
    expect(await transaction.complete(OUTCOME)).toEqual({ recorded: true });
    expect(await effects()).toBe(1);
    expect(await store.find(id)).toMatchObject({
      ...transaction.claim,
      state: 'completed',
      outcome: OUTCOME,
      attempt: 1,
    });
    await nothingIsHeld();
  });

  it.each([0, 1, 255, 70_000])('keeps text and bytes as they are: %i bytes', async (length) => {
    id = recordId('GET /ü😀\0', `${randomUUID()} ł`);
    const transaction = await begin();
    await write(transaction);
    const headers = [
      ['X-Text', 'plain'],
      ['X-Many', ['a', 'ÿ']],
    ] as const;
    const outcome: Outcome = {
      ...OUTCOME,
      headers,
      body: Buffer.alloc(length, Buffer.from([0, 255, 128, 39, 92])),
    };
    await transaction.complete(outcome);
    expect(await store.find(id)).toMatchObject({ outcome });
    const [row] = await sql(
      postgres.url,
      `SELECT scope, key FROM idempotency_cache WHERE id = '\\x${id.hash}'`,
    );
    expect(row).toEqual({ scope: 'GET /ü😀\ufffd', key: id.key });
  });

  it(`adds ${roundTrips} round trips to those of the handler`, async () => {
    await (await begin({ id: recordId('scope', randomUUID()) })).rollBack();
    const before = link.seen.get('bytes') ?? 0;
    const transaction = await begin();
    await write(transaction);
    await transaction.complete(OUTCOME);
    expect((link.seen.get('bytes') ?? 0) - before).toBe(roundTrips + 1);
  });

  it('rolls the effects back together with the claim', async () => {
    const transaction = await begin();
    await write(transaction);
    await Promise.all([transaction.rollBack(), transaction.rollBack()]);
    expect([await effects(), await store.find(id)]).toEqual([0, undefined]);
    await nothingIsHeld();
  });

  it('lets one of a key in, and answers the others with what stands once it has ended', async () => {
    const transaction = await begin();
    expect(await transactions.begin(request())).toEqual({ kind: 'locked' });
    expect(await transactions.isLocked(id)).toBe(true);
    const other = await begin({ id: recordId('scope', randomUUID()) });
    await write(transaction);
    await transaction.complete(OUTCOME);
    expect(await transactions.isLocked(id)).toBe(false);
    expect(await transactions.begin(request())).toMatchObject({
      kind: 'standing',
      record: { state: 'completed' },
    });
    await other.rollBack();
    await nothingIsHeld();
  });

  it('draws a higher fence for each', async () => {
    const fences: number[] = [];
    for (let i = 0; i < 3; i++) {
      const transaction = await begin();
      fences.push(transaction.claim.fence);
      await transaction.rollBack();
    }
    fences.push((await lease()).fence);
    expect(fences).toEqual([...new Set(fences)].sort((a, b) => a - b));
  });

  describe('beside claims with leases', () => {
    it('waits for one that is alive', async () => {
      await lease();
      expect(await transactions.begin(request())).toMatchObject({
        kind: 'standing',
        record: { state: 'in_progress' },
      });
      await nothingIsHeld();
    });

    it.each(['in progress', 'completed'])(
      'leaves nothing where one came between that is %s',
      async (state) => {
        const transaction = await begin();
        await write(transaction);
        const claim = await lease();
        if (state === 'completed') await store.complete(claim, { ...OUTCOME, status: 202 });
        expect(await transaction.complete(OUTCOME)).toMatchObject({
          recorded: false,
          record: { token: claim.token },
        });
        expect(await effects()).toBe(0);
        await nothingIsHeld();
      },
    );

    it('commits where one came and went', async () => {
      const transaction = await begin();
      await write(transaction);
      await store.release(await lease());
      expect(await transaction.complete(OUTCOME)).toEqual({ recorded: true });
      expect(await effects()).toBe(1);
    });

    describe('that are completed and have expired', () => {
      const change = (what: string): Promise<unknown> =>
        sql(postgres.url, `UPDATE idempotency_cache SET ${what} WHERE id = '\\x${id.hash}'`);
      const expire = async (): Promise<Claim> => {
        const claim = await lease();
        await store.complete(claim, { ...OUTCOME, status: 202 });
        await change(`expires_at = now() - interval '1 s'`);
        return claim;
      };

      it('takes their place, under a higher fence', async () => {
        const { fence } = await expire();
        await change('fence = fence + 1000');
        const transaction = await begin();
        await write(transaction);
        expect(await transaction.complete(OUTCOME)).toEqual({ recorded: true });
        expect(transaction.claim.fence).toBeGreaterThan(fence + 1000);
        expect(await store.find(id)).toMatchObject({ ...transaction.claim, outcome: OUTCOME, attempt: 1 });
        expect(await effects()).toBe(1);
        await nothingIsHeld();
      });

      it('leaves them as they are where it is rolled back', async () => {
        const { token } = await expire();
        const transaction = await begin();
        await write(transaction);
        await transaction.rollBack();
        const rows = await sql<{ token: string }>(
          postgres.url,
          `SELECT token FROM idempotency_cache WHERE id = '\\x${id.hash}'`,
        );
        expect(rows).toEqual([{ token }]);
      });

      it('commits where the cleanup has deleted them meanwhile', async () => {
        await expire();
        const transaction = await begin();
        await write(transaction);
        await sql(postgres.url, `DELETE FROM idempotency_cache WHERE id = '\\x${id.hash}'`);
        expect(await transaction.complete(OUTCOME)).toEqual({ recorded: true });
        expect(await effects()).toBe(1);
      });

      it('leaves nothing where another has claimed their key meanwhile', async () => {
        await expire();
        const transaction = await begin();
        await write(transaction);
        const claim = await lease();
        expect(await transaction.complete(OUTCOME)).toMatchObject({
          recorded: false,
          record: { token: claim.token },
        });
        expect(await effects()).toBe(0);
        await nothingIsHeld();
      });
    });

    it('has an orphan taken over first, and completes that claim', async () => {
      await lease();
      await lapse();
      expect(await transactions.begin(request())).toEqual({ kind: 'lapsed' });
      const claim = await lease();
      const transaction = await begin({ claim });
      await write(transaction);
      expect(await transaction.complete(OUTCOME)).toEqual({ recorded: true });
      expect(await effects()).toBe(1);
      expect(await store.find(id)).toMatchObject({ ...claim, attempt: 2, state: 'completed' });
    });

    it('takes a server that only reads for an outage where it completes a claim, and not for the work of the handler', async () => {
      const claim = await lease();
      await dataSource.query('SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY'); // as a standby is
      const transaction = await begin({ claim });
      await transaction.run(() => Promise.resolve());
      await expect(transaction.complete(OUTCOME)).rejects.toMatchObject({ code: 'store_unavailable' });
      expect(await store.find(id)).toMatchObject({ ...claim, state: 'in_progress' });
    });

    it('leaves nothing where that claim was lost', async () => {
      const claim = await lease();
      const transaction = await begin({ claim });
      await write(transaction);
      await lapse();
      const winner = await lease();
      expect(await transaction.complete(OUTCOME)).toMatchObject({
        recorded: false,
        record: { token: winner.token },
      });
      expect(await effects()).toBe(0);
      await nothingIsHeld();
    });

    it('takes an orphan of another request for what it is', async () => {
      await lease();
      await lapse();
      const other = request({ fingerprint: 'cd'.repeat(32) });
      expect(await transactions.begin(other)).toMatchObject({
        kind: 'standing',
        record: { fingerprint: FINGERPRINT },
      });
    });
  });

  describe('when the commit is not answered', () => {
    const rulings: [side: 'request' | 'reply', ruling: Ruling, committed: boolean][] = [
      ['request', 'lose', false],
      ['request', 'reset', false],
      ['request', 'cut', false],
      ['reply', 'lose', true],
      ['reply', 'reset', true],
      ['reply', 'cut', true],
    ];
    it.each(rulings)('finds out what became of it: %s, %s', async (side, ruling, committed) => {
      const transaction = await begin();
      await write(transaction);
      link.watch('commit', side, ruling);
      const result = await codeOf(transaction.complete(OUTCOME));
      if (committed) expect(result).toEqual({ recorded: true });
      else expect(result).toBe('store_unavailable');
      expect([await effects(), (await store.find(id))?.token]).toEqual(
        committed ? [1, transaction.claim.token] : [0, undefined],
      );
      await transaction.rollBack();
      await nothingIsHeld();
    });

    it('answers in the end although it cannot be found out, and a retry can', async () => {
      const transaction = await begin();
      await write(transaction);
      const { resume } = link.watch('commit', 'request', 'hold');
      expect(await codeOf(transaction.complete(OUTCOME))).toBe('outcome_not_recorded');
      await transaction.rollBack();
      expect(await transactions.begin(request())).toEqual({ kind: 'locked' });
      resume();
      await eventually(async () =>
        expect(await transactions.begin(request())).toMatchObject({ kind: 'standing' }),
      );
      expect([await effects(), (await store.find(id))?.token]).toEqual([1, transaction.claim.token]);
    });

    it('says nothing of it while Postgres cannot be asked', async () => {
      const transaction = await begin();
      await write(transaction);
      link.watch('commit', 'reply', 'lose', { act: () => postgres.kill('SIGSTOP') });
      const result = codeOf(transaction.complete(OUTCOME));
      expect(await result).toBe('outcome_not_recorded');
      postgres.kill('SIGCONT');
      await eventually(async () => expect((await store.find(id))?.token).toBe(transaction.claim.token));
    });
  });

  it.each<[Ruling, 'request' | 'reply']>([
    ['reset', 'request'],
    ['reset', 'reply'],
    ['cut', 'reply'],
  ])('begins on another connection where one is dead: %s, %s', async (ruling, side) => {
    const warm = await begin();
    await warm.rollBack();
    link.watch('begin', side, ruling);
    const transaction = await eventually(() => begin()); // until Postgres finds it dead, the first has the lock
    await write(transaction);
    expect(await transaction.complete(OUTCOME)).toEqual({ recorded: true });
    await nothingIsHeld();
  });

  it('refuses to begin where Postgres does not answer, and holds nothing', async () => {
    const warm = await begin();
    await warm.rollBack();
    link.watch('begin', 'request', 'lose', { times: 5 });
    await expect(transactions.begin(request())).rejects.toMatchObject({ name: 'StoreUnavailableError' });
    link.unwatch();
    await nothingIsHeld();
  });

  it('leaves nothing where its connection is ended while the handler runs', async () => {
    const transaction = await begin();
    await write(transaction);
    await sql(
      postgres.url,
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'`,
    );
    expect(await codeOf(transaction.complete(OUTCOME))).toBe('store_unavailable');
    expect([await effects(), await store.find(id)]).toEqual([0, undefined]);
    await nothingIsHeld();
  });

  it('rolls back a handler that takes too long, and cuts off the statement that it waits for', async () => {
    const transaction = await begin({
      policy: { isolation: undefined, timeout: 100, maxConcurrent: undefined },
    });
    const reasons: string[] = [];
    transaction.onAbort(({ code }) => reasons.push(code));
    const { signal } = transaction.context;
    await expect(transaction.run(() => dataSource.query('SELECT pg_sleep(30)'))).rejects.toThrow();
    expect([reasons, signal.aborted]).toEqual([['transaction_timeout'], true]);
    expect(await codeOf(transaction.complete(OUTCOME))).toBe('transaction_timeout');
    await nothingIsHeld();
  });

  it('says that it took too long also where what it has left open cannot be undone alone any more', async () => {
    const transaction = await begin({
      policy: { isolation: undefined, timeout: 1_000, maxConcurrent: undefined },
    });
    await transaction.run(async () => {
      const runner = dataSource.createQueryRunner();
      await runner.startTransaction();
      void runner.query('SELECT pg_sleep(30)').catch(() => undefined);
      const SLEEPING = `SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)' AND state = 'active'`;
      await eventually(async () => expect(await sql(postgres.url, SLEEPING)).toHaveLength(1));
    });
    expect(await codeOf(transaction.complete(OUTCOME))).toBe('transaction_timeout');
    await nothingIsHeld();
  });

  it('leaves one connection of the pool to others, and turns away what cannot wait', async () => {
    const keys = Array.from({ length: 3 }, () => recordId('scope', randomUUID()));
    const open = await Promise.all(keys.map((each) => begin({ id: each })));
    await dataSource.query('SELECT 1');
    const queued = transactions.begin(request());
    await expect(transactions.begin(request())).rejects.toMatchObject({ reason: 'transactions_queued' });
    await open[0]!.rollBack();
    const next = begun(await queued);
    const late = transactions.begin(request({ id: keys[0]!, deadline: performance.now() + 50 }));
    await expect(late).rejects.toBeInstanceOf(OverloadedError);
    await Promise.all([next, ...open].map((each) => each.rollBack()));
    await nothingIsHeld();
  });

  it('bounds the transactions of one route', async () => {
    const policy = { isolation: undefined, timeout: 10_000, maxConcurrent: 1 };
    const first = await begin({ policy });
    const others = recordId('scope', randomUUID());
    const second = transactions.begin(request({ id: others, policy }));
    const elsewhere = await begin({ id: recordId('scope', randomUUID()), name: 'Other.handler', policy });
    await first.rollBack();
    await begun(await second).rollBack();
    await elsewhere.rollBack();
    await nothingIsHeld();
  });

  it('says that the pool is exhausted, which is no outage', async () => {
    const runners = Array.from({ length: 4 }, () => dataSource.createQueryRunner());
    await Promise.all(runners.map((each) => each.connect()));
    await expect(transactions.begin(request())).rejects.toMatchObject({ reason: 'transactions_late' });
    await Promise.all(runners.map((each) => each.release()));
    await nothingIsHeld();
  });

  it('finds a record that was committed after its snapshot was taken', async () => {
    const policy = { isolation: 'REPEATABLE READ', timeout: 10_000, maxConcurrent: undefined } as const;
    const transaction = await begin({ policy });
    await write(transaction);
    const claim = await lease();
    await store.complete(claim, OUTCOME);
    expect(await transaction.complete(OUTCOME)).toMatchObject({
      recorded: false,
      record: { token: claim.token },
    });
    expect(await effects()).toBe(0);
  });

  it('prepares its statements once for each connection, where it sends them together', async () => {
    for (let i = 0; i < 3; i++) await (await begin()).rollBack();
    const runner = dataSource.createQueryRunner();
    const names = (await runner.query('SELECT name FROM pg_prepared_statements')) as { name: string }[];
    await runner.release();
    if (roundTrips > 2) expect(names).toEqual([]);
    else expect(names.length).toBeGreaterThan(2);
    expect(new Set(names.map(({ name }) => name)).size).toBe(names.length);
  });
});
