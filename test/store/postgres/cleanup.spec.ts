import { Logger } from '@nestjs/common';
import { Client } from 'pg';
import { StoreUnavailableError } from '../../../lib/core/errors';
import { ExpiredRecordCleanup } from '../../../lib/store/postgres/cleanup';
import { until } from '../../support/eventually';
import {
  claimed,
  claimRequest,
  expire,
  migrate,
  response,
  sql,
  type Instance,
} from '../../support/postgres-store';
import { freshDatabases } from '../../support/fresh-databases';

describe('ExpiredRecordCleanup', () => {
  const cleanups: ExpiredRecordCleanup[] = [];
  const databases = freshDatabases({
    instance: { timeout: 5_000 },
    onEnd: () => Promise.all(cleanups.splice(0).map((cleanup) => cleanup.stop())),
  });
  const instance = databases.open;
  let url: string;
  beforeEach(() => ({ url } = databases));

  function cleanupOf(
    { connection, names }: Instance,
    batchSize = 100,
    interval = 3_600_000,
    onPassEnd?: () => void,
  ): ExpiredRecordCleanup {
    const cleanup = new ExpiredRecordCleanup(connection, names, { interval, batchSize }, onPassEnd);
    cleanups.push(cleanup);
    return cleanup;
  }

  /** Completed records that expired `age` seconds ago. */
  async function expired(count: number, age = 1): Promise<void> {
    await sql(
      url,
      `INSERT INTO idempotency_cache (id, token, fingerprint, state, attempt, created_at, completed_at, expires_at, status, headers, body, scope, key)
       SELECT sha256(('expired' || n)::bytea), gen_random_uuid(), sha256('f'), 'completed', 1, now(), now(),
         now() - $2 * interval '1 s', 200, '[]', '', 'scope', 'expired' || n
       FROM generate_series(1, $1) AS n`,
      [count, age],
    );
  }

  const rows = async (): Promise<number> =>
    (
      await sql<{ count: number }>(
        url,
        "SELECT count(*)::int FROM idempotency_cache WHERE scope NOT LIKE 'nestjs-idempotency: %'",
      )
    )[0]!.count;

  it('deletes what has expired, batch after batch, and nothing else', async () => {
    const { store, ...opened } = await instance();
    const live = claimed(await store.claim(claimRequest('in progress')));
    const done = claimed(await store.claim(claimRequest('completed')));
    await store.complete(done, response('done'));
    await expired(250);
    expect(await cleanupOf({ store, ...opened }, 100).runOnce()).toBe(250);
    expect(await rows()).toBe(2);
    expect(await store.find(live.id)).toMatchObject({ state: 'in_progress' });
    expect(await store.find(done.id)).toMatchObject({ state: 'completed' });
  });

  it('deletes an orphan that has expired, as no request asks for it any more', async () => {
    const opened = await instance();
    await opened.store.claim(claimRequest('orphan'));
    await expire(url, 'orphan');
    expect(await cleanupOf(opened).runOnce()).toBe(1);
  });

  it('never deletes a row with a live lease, even if it was made to expire by hand', async () => {
    const opened = await instance();
    const claim = claimed(await opened.store.claim(claimRequest('live')));
    await sql(url, 'ALTER TABLE idempotency_cache DROP CONSTRAINT idempotency_cache_in_progress_check');
    await sql(url, `UPDATE idempotency_cache SET expires_at = now() - interval '1 h'`);
    expect(await cleanupOf(opened).runOnce()).toBe(0);
    expect(await opened.store.renew([claim], 30_000)).toEqual(new Set([claim.token]));
  });

  it('neither waits for a row that is being written nor deletes it', async () => {
    const opened = await instance();
    await expired(3);
    const writer = new Client({ connectionString: url });
    await writer.connect();
    await writer.query('BEGIN');
    await writer.query(`SELECT FROM idempotency_cache WHERE key = 'expired2' FOR UPDATE`);
    expect(await cleanupOf(opened).runOnce()).toBe(2);
    await writer.query('ROLLBACK');
    await writer.end();
    expect(await rows()).toBe(1);
  });

  it('leaves the work to one instance at a time, and to the next afterwards', async () => {
    const [one, two] = await Promise.all([instance(), instance()]);
    await expired(10);
    const holder = new Client({ connectionString: url });
    await holder.connect();
    // The first instance in the middle of its batch: a transaction that holds its lock.
    await holder.query('BEGIN');
    const statement = (await statementOf(one)).replace('$1', '1');
    expect((await holder.query<{ deleted: number }>(statement)).rows).toEqual([{ deleted: 1 }]);
    let passes = 0;
    const cleanup = cleanupOf(two, 5, undefined, () => passes++);
    expect(await cleanup.runOnce()).toBe(0);
    expect(passes).toBe(0);
    await holder.query('COMMIT');
    await holder.end();
    expect(await cleanup.runOnce()).toBe(9);
    expect(passes).toBe(1);
  });

  it('deletes each row once, however many clean up', async () => {
    const all = await Promise.all([instance(), instance(), instance()]);
    await expired(500);
    let total = 0;
    await until(async () => {
      const deleted = await Promise.all(all.map((each) => cleanupOf(each, 20).runOnce()));
      total += deleted.reduce((sum, each) => sum + each, 0);
      return (await rows()) === 0;
    });
    expect(total).toBe(500);
  });

  it('works also in the schema of the DataSource, and holds up no other table of the database', async () => {
    await sql(url, 'CREATE SCHEMA other');
    const other = await instance({ dataSource: { schema: 'other', synchronize: true } });
    await migrateInto('other');
    const holder = new Client({ connectionString: url });
    await holder.connect();
    await holder.query('BEGIN');
    await holder.query((await statementOf(await instance())).replace('$1', '1'));
    await sql(
      url,
      `INSERT INTO other.idempotency_cache (id, token, fingerprint, state, attempt, created_at, completed_at, expires_at, status, headers, body, scope, key)
       VALUES (sha256('a'), gen_random_uuid(), sha256('f'), 'completed', 1, now(), now(), now(), 200, '[]', '', 's', 'k')`,
    );
    expect(await cleanupOf(other).runOnce()).toBe(1);
    await holder.query('COMMIT');
    await holder.end();
  });

  async function migrateInto(schema: string): Promise<void> {
    await migrate(`${url}?options=-c%20search_path%3D${schema}`);
  }

  async function statementOf(opened: Instance): Promise<string> {
    let text = '';
    const operation = jest.spyOn(opened.connection, 'operation').mockReturnValue((statement) => {
      text = statement;
      return Promise.resolve([]);
    });
    await cleanupOf(opened).runOnce();
    operation.mockRestore();
    return text;
  }

  it('starts again and again, until it is stopped', async () => {
    const opened = await instance();
    const cleanup = cleanupOf(opened, 100, 20);
    cleanup.start();
    cleanup.start();
    for (let round = 0; round < 3; round++) {
      await expired(5);
      await until(async () => (await rows()) === 0);
    }
    await cleanup.stop();
    await expired(5);
    const passes = jest.spyOn(opened.connection, 'operation');
    const other = await instance();
    const run = jest.fn(() => Promise.resolve([{ deleted: 0 }]));
    jest.spyOn(other.connection, 'operation').mockReturnValue(run as never);
    cleanupOf(other, 100, 20).start();
    await until(() => run.mock.calls.length > 3);
    expect(passes.mock.calls).toEqual([]); // in the time in which another one has started four times
    expect(await rows()).toBe(5);
  });

  it('keeps no process alive', async () => {
    const opened = await instance();
    const timers = (): number => process.getActiveResourcesInfo().filter((each) => each === 'Timeout').length;
    const before = timers();
    cleanupOf(opened).start();
    expect(timers()).toBe(before);
  });

  it('waits at its stop for the batch under way', async () => {
    const opened = await instance();
    let finish!: () => void;
    const batch = new Promise<unknown[]>((resolve) => (finish = () => resolve([{ deleted: 100 }])));
    const run = jest.fn(() => batch);
    jest.spyOn(opened.connection, 'operation').mockReturnValue(run as never);
    const cleanup = cleanupOf(opened, 100, 1);
    cleanup.start();
    await until(() => run.mock.calls.length > 0);
    let stopped = false;
    const stopping = cleanup.stop().then(() => (stopped = true));
    await new Promise((resolve) => setImmediate(resolve)); // by then it would have stopped
    expect(stopped).toBe(false);
    finish();
    await stopping;
    expect(run).toHaveBeenCalledTimes(1); // a full batch, and yet no further one
  });

  it('warns once per streak of failures, and goes on', async () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    const opened = await instance();
    let outcome: () => Promise<unknown[]> = () =>
      Promise.reject(new StoreUnavailableError('postgres', 'cleanup', new Error('gone')));
    const run = jest.fn(() => outcome());
    jest.spyOn(opened.connection, 'operation').mockReturnValue(run as never);
    cleanupOf(opened, 100, 1).start();
    await until(() => run.mock.calls.length > 5);
    expect(warn).toHaveBeenCalledTimes(1);
    const failing = outcome;
    outcome = () => Promise.resolve([{ deleted: 0 }]);
    const calls = run.mock.calls.length;
    await until(() => run.mock.calls.length > calls + 2);
    outcome = failing;
    await until(() => warn.mock.calls.length === 2);
  });
});
