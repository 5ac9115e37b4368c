import { Logger } from '@nestjs/common';
import { recordId } from '../../../lib/core/record';
import { OrphanWatch, type OrphanReport } from '../../../lib/store/postgres/orphans';
import {
  claimed,
  claimRequest,
  expire,
  lapse,
  response,
  sql,
  until,
  type Instance,
} from '../../support/postgres-store';
import { freshDatabases } from '../../support/fresh-databases';

describe('OrphanWatch', () => {
  let url: string;
  let instance: Instance;
  let watch: OrphanWatch | undefined;
  let lines: string[];
  let reports: OrphanReport[];
  const databases = freshDatabases({ onEnd: () => watch?.stop() });
  beforeEach(async () => {
    ({ url } = databases);
    instance = await databases.open();
    lines = [];
    reports = [];
    jest
      .spyOn(Logger.prototype, 'warn')
      .mockImplementation((...said: unknown[]) => void lines.push(String(said[0])));
  });

  const watching = (interval?: number): OrphanWatch =>
    (watch = new OrphanWatch(
      instance.connection,
      instance.names,
      (report) => reports.push(report),
      interval,
    ));
  const claim = (key: string, scope = 'POST /orders/7 user.id:s:alice') =>
    instance.store.claim(claimRequest(key, { id: recordId(scope, key) }));

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

  it('logs each once, with route and record, but neither key nor caller', async () => {
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
  });

  it('logs ten at most at each look, the newest first, until each has its line, and counts all', async () => {
    for (let n = 0; n < 25; n++) await claim(`key ${n}`);
    await sql(url, `UPDATE idempotency_cache SET lease_until = now() - interval '1 s'`);
    const look = watching();
    for (const logged of [10, 20, 25, 25]) {
      await look.look();
      expect(lines).toHaveLength(logged);
    }
    expect(new Set(lines.map((line) => line.slice(line.indexOf('record ')))).size).toBe(25);
    expect(reports.map(({ count }) => count)).toEqual([25, 25, 25, 25]);
  });

  it('looks again and again until it is stopped, also after Postgres has refused', async () => {
    await sql(url, 'ALTER TABLE idempotency_cache RENAME TO elsewhere');
    const looks = jest.spyOn(instance.connection, 'operation');
    watching(20).start();
    await until(() => looks.mock.calls.length > 2);
    expect(reports).toEqual([]);
    await sql(url, 'ALTER TABLE elsewhere RENAME TO idempotency_cache');
    await until(() => reports.length > 2);
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
