import { Logger } from '@nestjs/common';
import { performance } from 'node:perf_hooks';
import { Client } from 'pg';
import type { Orphan } from '../../../lib/core/ports';
import { Digest, plainDigest } from '../../../lib/core/digest';
import { recordId } from '../../../lib/core/record';
import { PostgresDirectory } from '../../../lib/store/postgres/directory';
import { OrphanWatch, type OrphanReport } from '../../../lib/store/postgres/orphans';
import { TableIdentity } from '../../../lib/store/postgres/schema/table-identity';
import { until } from '../../support/eventually';
import {
  claimed,
  claimRequest,
  expire,
  lapse,
  response,
  sql,
  type Instance,
} from '../../support/postgres-store';
import { freshDatabases } from '../../support/fresh-databases';

const recordsIn = (lines: readonly string[]): Set<string> =>
  new Set(lines.map((line) => line.slice(line.indexOf('record '))));

describe('OrphanWatch', () => {
  let url: string;
  let instance: Instance;
  let watch: OrphanWatch | undefined;
  let lines: string[];
  let reports: OrphanReport[];
  let told: Orphan[];
  let looks: number;
  const databases = freshDatabases({ onEnd: () => watch?.stop() });
  beforeEach(async () => {
    ({ url } = databases);
    instance = await databases.open();
    lines = [];
    reports = [];
    told = [];
    looks = 0;
    jest
      .spyOn(Logger.prototype, 'warn')
      .mockImplementation((...said: unknown[]) => void lines.push(String(said[0])));
  });

  /** As each process has one. */
  const watching = (interval?: number, digest = plainDigest): OrphanWatch =>
    (watch = new OrphanWatch(
      instance.connection,
      instance.names,
      digest,
      {
        orphansSeen: (report) => reports.push(report),
        orphansSought: () => looks++,
        orphaned: (orphan) => told.push(orphan),
      },
      interval,
    ));
  const claim = (key: string, scope = 'POST /orders/7 user.id:s:alice', digest = plainDigest) =>
    instance.store.claim(claimRequest(key, { id: recordId(scope, key, digest) }));

  it('counts claims whose lease has lapsed, and no others, with the age of the oldest', async () => {
    await claim('alive');
    const done = claimed(await claim('done'));
    await instance.store.complete(done, response('done'));
    await claim('expired');
    await expire(url, 'expired');
    const look = watching();
    await look.look();
    expect(reports).toEqual([{ count: 0, oldest: 0 }]);
    for (const key of ['orphan 1', 'orphan 2']) {
      await claim(key);
      await lapse(url, key);
    }
    await sql(
      url,
      `UPDATE idempotency_cache SET lease_until = now() - interval '90 s' WHERE key = 'orphan 1'`,
    );
    await look.look();
    expect(reports[1]?.count).toBe(2);
    expect(reports[1]?.oldest).toBeGreaterThanOrEqual(90);
    expect(reports[1]?.oldest).toBeLessThan(600);
  });

  it('logs and tells each once, with route and record, but neither key nor caller', async () => {
    await claim('secret-key');
    await lapse(url, 'secret-key');
    await claim('job', 'billing of alice');
    await lapse(url, 'job');
    const look = watching();
    await look.look();
    await look.look();
    expect(lines).toHaveLength(2);
    const { hash } = recordId('POST /orders/7 user.id:s:alice', 'secret-key');
    expect(lines.join('\n')).toMatch(
      new RegExp(`unknown: POST /orders/7, attempt 1, lease lapsed \\d+ s ago, record ${hash}`),
    );
    expect(lines.join('\n')).toContain('unknown: no HTTP route, attempt 1');
    expect(lines.join()).not.toMatch(/secret-key|alice/);
    expect(told).toContainEqual({
      hash,
      route: 'POST /orders/7',
      attempt: 1,
      age: expect.any(Number) as number,
    });
    expect(JSON.stringify(told)).not.toMatch(/secret-key|alice/);
  });

  it('logs a route that a terminal would obey as text', async () => {
    await claim('job', 'POST /\u001b[2J\u009b31m\u202e user.id:s:alice');
    await lapse(url, 'job');
    await watching().look();
    expect(lines).toEqual([expect.stringContaining('POST /\\u{1b}[2J\\u{9b}31m\\u{202e}, attempt 1')]);
  });

  it('logs each once over all processes, also those that look at the same time, or start later', async () => {
    for (let n = 0; n < 25; n++) await claim(`key ${n}`);
    await sql(url, `UPDATE idempotency_cache SET lease_until = now() - interval '1 s'`);
    await Promise.all(Array.from({ length: 4 }, () => watching().look()));
    await watching().look();
    expect(recordsIn(lines).size).toBe(25);
    expect(lines).toHaveLength(25);
    expect(reports.map(({ count }) => count)).toEqual([25, 25, 25, 25, 25]);
  });

  it('logs a record again where the request that took it over is lost as well', async () => {
    await claim('again');
    await lapse(url, 'again');
    await watching().look();
    await claim('again');
    await watching().look();
    expect(lines).toHaveLength(1);
    await lapse(url, 'again');
    await watching().look();
    await watching().look();
    expect(lines).toEqual([expect.stringContaining('attempt 1'), expect.stringContaining('attempt 2')]);
    expect(recordsIn(lines).size).toBe(1);
  });

  it('counts, logs and tells the orphans of its namespace alone, in a table that others share', async () => {
    const billing = new Digest({ namespace: 'billing' });
    for (const digest of [plainDigest, billing])
      await new TableIdentity(instance.connection, instance.names.table, digest).confirm();
    await claim('mine');
    await claim('theirs 1', 'POST /bills', billing);
    await claim('theirs 2', 'POST /bills', billing);
    await sql(
      url,
      `UPDATE idempotency_cache SET lease_until = now() - interval '1 h' WHERE state = 'in_progress'`,
    );
    await sql(url, `UPDATE idempotency_cache SET lease_until = now() - interval '1 min' WHERE key = 'mine'`);
    await watching().look();
    expect(reports).toMatchObject([{ count: 1 }]);
    expect(reports[0]?.oldest).toBeLessThan(3_000);
    expect(told.map(({ route }) => route)).toEqual(['POST /orders/7']);
    await watching(undefined, billing).look();
    expect(reports[1]?.count).toBe(2);
    expect(told.map(({ route }) => route)).toEqual(['POST /orders/7', 'POST /bills', 'POST /bills']);
    expect(lines).toHaveLength(3);
  });

  it('reads more orphans than one statement does, each once', async () => {
    // All expire at the same moment, so ids alone order them.
    await sql(
      url,
      `INSERT INTO idempotency_cache (id, token, fingerprint, state, attempt, lease_until, created_at, expires_at, scope, key)
       SELECT sha256(n::text::bytea), gen_random_uuid(), sha256('f'), 'in_progress', 1, now() - n * interval '1 s',
         now(), now() + interval '1 d', 'scope', n::text FROM generate_series(1, 4500) AS n`,
    );
    await watching().look();
    expect(reports).toMatchObject([{ count: 4_500 }]);
    expect(reports[0]?.oldest).toBeGreaterThanOrEqual(4_500);
    // The newest hundred, by the clock of their page.
    expect(told.at(-1)!.age - told[0]!.age).toBeLessThan(1_000);
  });

  it('leaves a mark that is no record, and that expires with the record', async () => {
    await claim('marked');
    await lapse(url, 'marked');
    await watching().look();
    const directory = new PostgresDirectory(instance.connection, instance.names.table, plainDigest);
    const { records } = await directory.list({}, 10);
    expect(records.map(({ key }) => key)).toEqual(['marked']);
    const ends = await sql(url, 'SELECT expires_at FROM idempotency_cache');
    expect(ends).toHaveLength(2);
    expect(ends[0]).toEqual(ends[1]);
  });

  it('logs a hundred at most at each look, the newest first, until each has its line, and counts all', async () => {
    await sql(
      url,
      `INSERT INTO idempotency_cache (id, token, fingerprint, state, attempt, lease_until, created_at, expires_at, scope, key)
       SELECT sha256(n::text::bytea), gen_random_uuid(), sha256('f'), 'in_progress', 1, now() - n * interval '1 s',
         now(), now() + interval '1 d', 'scope', n::text FROM generate_series(1, 230) AS n`,
    );
    for (const logged of [100, 200, 230, 230]) {
      await watching().look();
      expect(lines).toHaveLength(logged);
    }
    expect(recordsIn(lines).size).toBe(230);
    expect(told.map(({ age }) => age)).toEqual(told.map(({ age }) => age).sort((one, other) => one - other));
    expect(reports.map(({ count }) => count)).toEqual([230, 230, 230, 230]);
  });

  it('looks again and again until it is stopped, also after Postgres has refused', async () => {
    await sql(url, 'ALTER TABLE idempotency_cache RENAME TO elsewhere');
    const asked = jest.spyOn(instance.connection, 'operation');
    watching(20).start();
    await until(() => asked.mock.calls.length > 2);
    expect(reports).toEqual([]);
    await sql(url, 'ALTER TABLE elsewhere RENAME TO idempotency_cache');
    await until(() => reports.length > 2);
  });

  it('logs once that looks fail, after three in a row, and notes no look that failed', async () => {
    await sql(url, 'ALTER TABLE idempotency_cache RENAME TO elsewhere');
    const asked = jest.spyOn(instance.connection, 'operation');
    watching(20).start();
    await until(() => asked.mock.calls.length > 6);
    expect(lines).toEqual([expect.stringContaining('Orphans could not be counted')]);
    expect([reports, looks]).toEqual([[], 1]);
  });

  it('counts while operators look through a large table, and before the next batch of the cleanup', async () => {
    const { connection } = instance;
    const holder = new Client({ connectionString: url });
    await holder.connect();
    await holder.query('SELECT pg_advisory_lock(1), pg_advisory_lock(2)');
    const held = (operation: string, lock: number): Promise<unknown> =>
      connection.operation(operation, { timeout: 60_000 })(`SELECT pg_advisory_xact_lock(${lock})`, []);
    const reached = (lock: number, count: number): Promise<void> =>
      until(async () => {
        const waiting = await sql(url, 'SELECT FROM pg_locks WHERE objid = $1 AND NOT granted', [lock]);
        return waiting.length === count;
      });
    const looking = held('look', 1);
    await reached(1, 1);
    await watching().look();
    expect(reports).toHaveLength(1);
    const asked = jest.spyOn(connection, 'operation');
    const batches = [held('cleanup', 1), held('cleanup', 2)];
    await reached(1, 2);
    const look = watching().look();
    // It may wait for its turn until the next look would come.
    expect(asked.mock.lastCall?.[1]?.deadline).toBeGreaterThan(performance.now() + 20_000);
    await holder.query('SELECT pg_advisory_unlock(1)');
    await look;
    expect(reports).toHaveLength(2);
    await reached(2, 1);
    await holder.end();
    await Promise.all([looking, ...batches]);
  });

  it('reads the claims in progress alone, by their index', async () => {
    await sql(
      url,
      `INSERT INTO idempotency_cache (id, token, fingerprint, state, attempt, created_at, completed_at, expires_at, status, headers, body, scope, key)
       SELECT sha256(n::text::bytea), gen_random_uuid(), sha256('f'), 'completed', 1, now(), now(),
         now() + interval '1 d', 200, '[]', '', 'scope', n::text FROM generate_series(1, 20000) AS n`,
    );
    await claim('orphan');
    await lapse(url, 'orphan');
    await sql(url, 'ANALYZE idempotency_cache');
    let text = '';
    const operation = jest.spyOn(instance.connection, 'operation').mockReturnValue((statement) => {
      text = statement;
      return Promise.resolve([]);
    });
    await watching().look();
    operation.mockRestore();
    const plan = await sql(url, `EXPLAIN ${text.replace('$1', '10')}`);
    expect(JSON.stringify(plan)).toContain('idempotency_cache_in_progress_idx');
  });
});
