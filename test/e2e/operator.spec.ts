import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AuditEvent, PurgeReport, RecordDetails, RecordPage } from '../../lib';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { cli, type CliResult } from '../support/cli';
import { eventually } from '../support/eventually';
import { call, isReplay, type Answer } from '../support/http';
import { metricOf } from '../support/metrics';
import { sql } from '../support/postgres-store';
import { startProcess, type AppProcess } from '../support/processes';

const ALERTS = join(__dirname, '../../monitoring/alerts.yml');
const ORPHANS_STANDING = /alert: IdempotencyOrphansStanding\n +expr: max by \(job\) \((\w+)\) > (\d+)\n/;

/** Each command is a process that loads the module. */
jest.setTimeout(180_000);

/** What an operator does, from the shell, beside an application of three processes. */
describe('an operator', () => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let databaseUrl: string;
  let folder: string;
  const processes: AppProcess[] = [];
  beforeAll(async () => {
    [postgres, redis, folder] = await Promise.all([
      startPostgres(),
      startRedis(),
      mkdtemp(join(tmpdir(), 'operator-')),
    ]);
    databaseUrl = await postgres.createDatabase();
  });
  afterAll(() => Promise.all([postgres.stop(), redis.stop()]));
  afterEach(() => Promise.all(processes.splice(0).map((each) => each.stop())));

  const run = (...args: string[]): Promise<CliResult> =>
    cli(args, { env: { DATABASE_URL: databaseUrl, REDIS_URL: redis.url } });
  const start = async (count: number): Promise<AppProcess[]> => {
    const options = { onOrphan: 'reject', lease: '1s' } as const;
    const started = await Promise.all(
      Array.from({ length: count }, () => startProcess({ databaseUrl, redisUrl: redis.url, options })),
    );
    processes.push(...started);
    return started;
  };
  const post = (app: AppProcess, key: string, name: string, caller: string, takes = 0): Promise<Answer> =>
    app.post('/leads', key, { name, takes }, { headers: { authorization: `Bearer ${caller}` } });
  const leads = async (name: string): Promise<number> =>
    (await sql(databaseUrl, 'SELECT FROM leads WHERE name = $1', [name])).length;

  /** Whether the expression of the alert for orphans holds over what a process exposes. */
  const alerts = async ({ url }: AppProcess): Promise<boolean> => {
    const { text } = await call(`${url}/metrics`, { method: 'GET' });
    const [, gauge = '', limit] = ORPHANS_STANDING.exec(await readFile(ALERTS, 'utf8')) ?? [];
    return metricOf(text, gauge) > Number(limit);
  };

  it('settles what a killed process has left, and the retry gets it', async () => {
    expect(await run('migrate')).toMatchObject({ code: 0 });
    await sql(databaseUrl, 'CREATE TABLE leads (id serial PRIMARY KEY, name text)');
    const [killed, other] = await start(2);
    const [key, name] = [randomUUID(), randomUUID()];
    const send = (app: AppProcess): Promise<Answer> => post(app, key, name, 'alice', 60_000);
    void send(killed!).catch(() => undefined);
    await killed!.handling(name);
    await killed!.stop();

    const orphans = async (): Promise<RecordPage['records']> =>
      (await run('list', '--state', 'orphaned', '--json')).json<RecordPage>().records;
    const [orphan] = await eventually(async () => {
      const found = await orphans();
      expect(found).toHaveLength(1);
      return found;
    });
    expect(orphan).toMatchObject({ key, route: 'POST /leads', state: 'orphaned', attempt: 1 });
    const [watching] = await start(1);
    await eventually(async () => expect(await alerts(watching!)).toBe(true)); // no retry has come
    const refused = await send(other!);
    expect(refused.status).toBe(409);
    expect(refused.text).toContain('outcome-unknown');
    expect((await run('show', orphan!.hash, '--json')).json<RecordDetails>()).toMatchObject({
      key,
      state: 'orphaned',
    });

    const body = join(folder, 'body.json');
    const audit = join(folder, 'audit.log');
    await writeFile(body, '{"id":1,"settled":true}');
    const settle = ['--status', '201', '--header', 'Content-Type: application/json', '--body', `@${body}`];
    const change = ['--by', 'ann', '--reason', 'found the lead', '--audit', audit];
    expect(await run('resolve', orphan!.hash, ...settle, ...change)).toMatchObject({ code: 2 });
    expect(await run('resolve', orphan!.hash, ...settle, ...change, '--yes')).toMatchObject({ code: 0 });
    expect(await orphans()).toEqual([]);

    const answer = await send(other!);
    expect(answer).toMatchObject({ status: 201, text: '{"id":1,"settled":true}' });
    expect(isReplay(answer)).toBe(true);
    expect(await leads(name)).toBe(1);
    expect(JSON.parse(await readFile(audit, 'utf8')) as AuditEvent).toMatchObject({
      action: 'resolve',
      by: 'ann',
      reason: 'found the lead',
      result: 'done',
      record: { hash: orphan!.hash, route: 'POST /leads' },
    });
  });

  it('erases a caller, and none of three processes replays', async () => {
    const apps = await start(3);
    const keys = Array.from({ length: 4 }, () => randomUUID());
    for (const key of keys)
      for (const caller of ['bob', 'carol']) {
        const first = await post(apps[0]!, key, `${caller} ${key}`, caller);
        expect(first.status).toBe(201);
        for (const app of apps) expect(isReplay(await post(app, key, `${caller} ${key}`, caller))).toBe(true);
      }
    const { records } = (await run('list', '--key', keys[0]!, '--json')).json<RecordPage>();
    expect(records).toHaveLength(2);
    const bodies = await Promise.all(records.map(({ hash }) => run('show', hash, '--body')));
    const bob = records[bodies.findIndex(({ stdout }) => stdout.includes('"bob '))]!;
    const purged = await run('purge', '--principal-text', bob.principal!, '--yes', '--json');
    expect(purged.code).toBe(0);
    expect(purged.json<PurgeReport>()).toMatchObject({ purged: 4, copies: 4, complete: true });
    for (const [i, key] of keys.entries()) {
      for (const app of apps) expect(isReplay(await post(app, key, `carol ${key}`, 'carol'))).toBe(true);
      expect(isReplay(await post(apps[i % 3]!, key, `bob ${key}`, 'bob'))).toBe(false);
      expect(await leads(`bob ${key}`)).toBe(2);
      expect(await leads(`carol ${key}`)).toBe(1);
    }
  });
});
