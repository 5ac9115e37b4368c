import type { ChildProcess } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import type { IdempotencyModuleOptions, RecordPage } from '../../lib';
import {
  startPgBouncer,
  startPostgres,
  startRedis,
  type RunningPostgres,
  type RunningRedis,
} from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { directoryPlans } from '../support/plans';
import { cli, type CliOptions, type CliResult } from '../support/cli';
import { gate } from '../support/gate';
import { until } from '../support/eventually';
import { lapse, sql } from '../support/postgres-store';

/** Each command is a process that loads the module. */
jest.setTimeout(180_000);

describe('the command line', () => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let databaseUrl: string;
  let app: TestApp | undefined;
  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  });
  afterAll(() => Promise.all([postgres.stop(), redis.stop()]));
  beforeEach(async () => {
    databaseUrl = await postgres.createDatabase();
  });
  afterEach(async () => {
    await app?.close();
    app = undefined;
  });

  const run = (args: readonly string[], { env, ...more }: CliOptions = {}): Promise<CliResult> =>
    cli(args, { ...more, env: { DATABASE_URL: databaseUrl, REDIS_URL: redis.url, ...env } });
  const started = async (options?: IdempotencyModuleOptions): Promise<TestApp> =>
    (app = await startApp({ databaseUrl, redisUrl: redis.url, options }));
  const tables = async (): Promise<string[]> => {
    const rows = await sql<{ name: string }>(
      databaseUrl,
      `SELECT schemaname || '.' || tablename AS name FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`,
    );
    return rows.map(({ name }) => name).sort();
  };

  describe('migrate', () => {
    /** Of the three that `--indexes` makes, on the whole table. */
    const validIndexes = async (): Promise<boolean[]> => {
      const rows = await sql<{ valid: boolean }>(
        databaseUrl,
        `SELECT indisvalid AS valid FROM pg_index
         WHERE indexrelid::regclass::text ~ '^idempotency_cache_(caller|key|scope)_idx$'`,
      );
      return rows.map(({ valid }) => valid);
    };

    it('makes the table, again without harm, and prints the SQL alone with --dry-run', async () => {
      const dry = await run(['migrate', '--dry-run']);
      expect(dry.code).toBe(0);
      expect(dry.stdout).toContain('CREATE TABLE IF NOT EXISTS idempotency_cache');
      expect(await tables()).toEqual([]);
      expect(await run(['migrate'])).toMatchObject({ code: 0 });
      expect(await run(['migrate'])).toMatchObject({ code: 0 });
      expect(await tables()).toEqual(['public.idempotency_cache']);
      await started();
    });

    it('puts it into a schema, under a name, in partitions, with indexes', async () => {
      await sql(databaseUrl, 'CREATE SCHEMA "Other"');
      const place = ['--schema', 'Other', '--table', 'keys'];
      expect(await run(['migrate', '--partitioned', '--indexes', ...place])).toMatchObject({
        code: 0,
        stderr: '',
      });
      expect(await run(['migrate', '--partitioned', '--indexes', ...place])).toMatchObject({
        code: 0,
        stderr: '',
      });
      expect((await tables())[0]).toBe('Other.keys');
      const indexes = await sql<{ count: string }>(
        databaseUrl,
        `SELECT count(*) FROM pg_inherits WHERE inhparent IN ('"Other".keys_caller_idx'::regclass, '"Other".keys_key_idx'::regclass, '"Other".keys_scope_idx'::regclass)`,
      );
      expect(indexes).toEqual([{ count: '48' }]);
    });

    it('prints SQL that makes a partitioned table with its indexes', async () => {
      const { stdout } = await run(['migrate', '--partitioned', '--indexes', '--dry-run']);
      const [creating = '', concurrent = ''] = stdout.split(/^COMMIT;$/m);
      await sql(databaseUrl, `${creating}COMMIT;`);
      for (const statement of concurrent.split('\n').filter((line) => line !== ''))
        await sql(databaseUrl, statement);
      expect(await validIndexes()).toEqual([true, true, true]);
    });

    it('builds indexes again whose creation was interrupted, also of partitions', async () => {
      await run(['migrate', '--partitioned']);
      // What is left where CREATE INDEX CONCURRENTLY fails.
      await sql(databaseUrl, 'CREATE INDEX idempotency_cache_3_key_idx ON idempotency_cache_3 (key)');
      await sql(
        databaseUrl,
        `UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idempotency_cache_3_key_idx'::regclass`,
      );
      expect(await run(['migrate', '--indexes'])).toMatchObject({ code: 0 });
      expect(await validIndexes()).toEqual([true, true, true]);
    });

    it('leaves a session of a pooler as it was', async () => {
      await sql(databaseUrl, 'CREATE SCHEMA other');
      const pooler = await startPgBouncer(postgres.port);
      try {
        const { pathname } = new URL(databaseUrl);
        const url = Object.assign(new URL(pooler.url), { pathname }).href;
        const sessions = (): Promise<unknown[]> =>
          Promise.all([1, 2, 3].map(() => sql(url, 'SHOW search_path')));
        const before = await sessions();
        expect(await run(['migrate', '--schema', 'other'], { env: { DATABASE_URL: url } })).toMatchObject({
          code: 0,
        });
        expect(await sessions()).toEqual(before);
        expect(await tables()).toEqual(['other.idempotency_cache']);
      } finally {
        await pooler.stop();
      }
    });

    it.each([
      ['a view', 'CREATE VIEW idempotency_cache AS SELECT 1 AS id', []],
      ['a table of another form', 'CREATE TABLE idempotency_cache (id int)', []],
      ['a table without partitions', 'CREATE TABLE idempotency_cache (id bytea)', ['--partitioned']],
    ])('says that what has the name of the table is %s', async (_, there, args) => {
      await sql(databaseUrl, there);
      const refused = await run(['migrate', ...args]);
      expect(refused).toMatchObject({ code: 3, stdout: '' });
      expect(refused.stderr).toMatch(/Postgres says ".*of another form\. Rename it/);
    });

    it.each(['Keys', 'of "them"', 'k'.repeat(46)])(
      'makes no table under a name that the file cannot have: %s',
      async (name) => {
        expect(await run(['migrate', '--table', name])).toMatchObject({
          code: 2,
          stderr: expect.stringContaining('CreateIdempotencyCache1764000000015'),
        });
      },
    );

    it('makes a table under the longest name that it takes', async () => {
      const longest = ['--table', 'k'.repeat(45)];
      expect(await run(['migrate', '--partitioned', '--indexes', ...longest])).toMatchObject({ code: 0 });
      expect((await run(['list', ...longest])).stderr).toContain('Start the application once'); // its form is ours
    });

    it('says what is missing where the schema is, or the right to use it', async () => {
      expect(await run(['migrate', '--schema', 'absent'])).toMatchObject({
        code: 3,
        stderr: expect.stringMatching(/the schema "absent" is missing.*CREATE SCHEMA/),
      });
      await sql(
        databaseUrl,
        `CREATE ROLE visitor LOGIN PASSWORD 'pw'; CREATE SCHEMA closed; CREATE SCHEMA seen`,
      );
      await sql(databaseUrl, 'GRANT USAGE ON SCHEMA seen TO visitor');
      const url = Object.assign(new URL(databaseUrl), { username: 'visitor', password: 'pw' }).href;
      for (const schema of ['closed', 'seen'])
        expect(await run(['migrate', '--schema', schema], { env: { DATABASE_URL: url } })).toMatchObject({
          code: 3,
          stderr: expect.stringContaining('CREATE ON SCHEMA'),
        });
    });

    it('makes the indexes that callers, keys and routes are found by', async () => {
      await run(['migrate', '--indexes']);
      await sql(
        databaseUrl,
        `INSERT INTO idempotency_cache (id, token, fingerprint, state, attempt, created_at, completed_at, expires_at, status, headers, body, scope, key)
         SELECT sha256(i::text::bytea), gen_random_uuid(), sha256('f'), 'completed', 1, now(), now(), now() + i * interval '1 min', 201, '[]', '',
           'POST /leads user.id:s:u' || i, 'key ' || i FROM generate_series(1, 5000) AS i`,
      );
      await sql(databaseUrl, 'ANALYZE idempotency_cache');
      expect(await directoryPlans(databaseUrl)).toEqual({
        page: 'idempotency_cache_expires_at_idx',
        caller: 'idempotency_cache_caller_idx',
        key: 'idempotency_cache_key_idx',
        route: 'idempotency_cache_scope_idx',
      });
    });
  });

  it('lists and shows records', async () => {
    const { service } = await started();
    const key = randomUUID();
    await service.execute(key, () => 'a secret value', { scope: 'jobs' });
    const page = (await run(['list', '--json'])).json<RecordPage>();
    expect(page.records).toMatchObject([{ key, scope: 'jobs', state: 'completed' }]);
    const listed = await run(['list']);
    expect(listed.stdout.split('\n')[1]).toMatch(
      new RegExp(`^completed .*jobs .*${key}  ${page.records[0]!.hash}$`),
    );
    const references = [[page.records[0]!.hash], [key], [key, '--scope', 'jobs']];
    for (const shown of await Promise.all(references.map((reference) => run(['show', ...reference])))) {
      expect(shown).toMatchObject({ code: 0 });
      expect(shown.stdout).toContain(key);
      expect(shown.stdout).not.toContain('secret value');
    }
    expect((await run(['show', key, '--body'])).stdout).toContain('secret value');
    const likeAHash = 'AB'.repeat(32);
    await service.execute(likeAHash, () => 1, { scope: 'jobs' });
    expect((await run(['show', likeAHash])).stdout).toContain(likeAHash);
    expect(await run(['show', 'no such key'])).toMatchObject({ code: 1, stdout: '' });
  });

  it('says why it shows no response of a completed record', async () => {
    const [lost, other] = [randomBytes(32), randomBytes(32)].map((each) => each.toString('base64'));
    app = await startApp({ databaseUrl, redisUrl: redis.url, options: { encryption: { keys: [lost!] } } });
    const key = randomUUID();
    await app.service.execute(key, () => 'a secret value', { scope: 'jobs' });
    const show = (keys: string, ...more: string[]): Promise<CliResult> =>
      run(['show', key, '--body', ...more], { env: { IDEMPOTENCY_ENCRYPTION_KEYS: keys } });
    expect((await show(lost!)).stdout).toContain('a secret value');
    expect((await show(other!)).stdout).toMatch(/^response +.*encrypted with a key that is not configured/m);
    expect((await show(other!, '--json')).json()).toMatchObject({ withoutResponse: 'unreadable' });
  });

  it('changes nothing unless it is confirmed, and says in the audit who did it', async () => {
    const { service } = await started();
    const key = randomUUID();
    await service.execute(key, () => 1, { scope: 'jobs' });
    expect(await run(['forget', key])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('Pass --yes'),
    });
    expect(await service.find(key, { scope: 'jobs' })).toBeDefined();
    const audit = join(tmpdir(), `audit-${randomUUID()}.log`);
    const change = ['--yes', '--by', 'ann', '--reason', 'ticket 42', '--audit', audit];
    expect(await run(['forget', key, ...change])).toMatchObject({ code: 0 });
    expect(await service.find(key, { scope: 'jobs' })).toBeUndefined();
    expect(await run(['forget', key, '--yes'])).toMatchObject({ code: 1 });
    expect(JSON.parse(await readFile(audit, 'utf8'))).toMatchObject({
      action: 'forget',
      by: 'ann',
      reason: 'ticket 42',
      result: 'done',
    });
  });

  it('says why the audit could not be written after all', async () => {
    const { service } = await started();
    await service.execute('key', () => 1);
    const result = await run(['forget', 'key', '--yes', '--audit', '/dev/full']);
    expect(result.code).toBe(0);
    expect(result.stderr).toMatch(/`audit` option failed.*: ENOSPC/);
  });

  it('ends a change as it would, and its audit, although the readers of its output have left', async () => {
    const { service } = await started();
    await service.execute('key', () => 1);
    const audit = join(tmpdir(), `${randomUUID()}.log`);
    const purge = ['purge', '--key', 'key', '--yes', '--audit', audit];
    expect(await run(purge, { read: false })).toMatchObject({ code: 0 });
    expect(await service.find('key')).toBeUndefined();
    const events = (await readFile(audit, 'utf8')).trim().split('\n');
    expect(events.map((line) => JSON.parse(line) as unknown)).toMatchObject([
      { result: 'begun' },
      { result: 'done', purged: 1 },
    ]);
  });

  it.each([
    ['of another kind', ['SIGINT', 'SIGTERM']],
    ['of the same kind', ['SIGINT', 'SIGINT']],
    ['once the terminal is lost', ['SIGHUP', 'SIGINT']],
  ] as const)('ends at once by a second signal, %s', async (_, signals) => {
    const { service } = await started();
    await service.execute('key', () => 1);
    const audit = join(tmpdir(), `${randomUUID()}.log`);
    const holder = new Client(databaseUrl);
    await holder.connect();
    try {
      await holder.query(`BEGIN; SELECT FROM idempotency_cache WHERE key = 'key' FOR UPDATE`);
      let child: ChildProcess | undefined;
      let told = '';
      const ended = run(['purge', '--key', 'key', '--yes', '--audit', audit], {
        onStart: (process) => {
          child = process;
          process.stderr?.on('data', (text) => (told += String(text)));
        },
      });
      const waits = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
      await until(async () => (await sql(databaseUrl, waits)).length > 0);
      const [first, second] = signals;
      child?.kill(first);
      await until(() => told.includes(`${first}: the purge ends`));
      child?.kill(second);
      expect(await ended).toMatchObject({ signal: second, stdout: '' });
      expect(JSON.parse(await readFile(audit, 'utf8'))).toMatchObject({ result: 'begun' });
    } finally {
      await holder.end();
    }
  });

  it('asks for one of several records with one key', async () => {
    const { service } = await started();
    for (const scope of ['a', 'b']) await service.execute('same', () => 1, { scope });
    const result = await run(['show', 'same']);
    expect(result).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('Several records have this key'),
    });
  });

  it('settles with a body from a file, from standard input, or a value', async () => {
    const { service } = await started();
    // A mark of byte order, a byte that no text has, and a NUL.
    const bytes = Buffer.from([0xef, 0xbb, 0xbf, 0xff, 0, 0x61]);
    const settled: Record<string, readonly [scope: string, args: string[], input?: string | Buffer]> = {
      'by value': ['execute', ['--value', '{"a":1}']],
      'by body': ['POST /a', ['--status', '201', '--header', 'Content-Type: text/plain', '--body', 'text']],
      'by input': ['POST /a', ['--status', '201', '--body', '@-'], 'from input'],
      'by bytes': ['POST /a', ['--status', '201', '--body', '@-'], bytes],
    };
    for (const [key, [scope, args, input]] of Object.entries(settled)) {
      const work = service.execute(key, () => new Promise(() => undefined), { lease: '1h', scope });
      void work.catch(() => undefined);
      await until(async () => (await service.find(key, { scope })) !== undefined);
      await lapse(databaseUrl, key);
      expect(await run(['resolve', key, '--yes', ...args], { input })).toMatchObject({ code: 0 });
    }
    expect(await run(['resolve', 'by value', '--yes', '--value', '1'])).toMatchObject({ code: 1 });
    expect((await run(['show', 'by input', '--body'])).stdout).toContain('from input');
    expect((await run(['show', 'by bytes', '--body', '--json'])).json()).toMatchObject({
      body: bytes.toString('base64'),
    });
    expect(await run(['resolve', 'by value', '--yes', '--value', '1', '--header', 'a: b'])).toMatchObject({
      code: 2,
    });
    expect(await run(['resolve', 'by body', '--yes'])).toMatchObject({ code: 2 });
    expect(await run(['resolve', 'by body', '--yes', '--status', '201', '--body', '@/none'])).toMatchObject({
      code: 2,
    });
  });

  it('purges, and says where it could not', async () => {
    const { service } = await started();
    for (let i = 0; i < 3; i++) await service.execute(`key ${i}`, () => i, { scope: 'jobs' });
    expect(await run(['purge', '--yes'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('no condition'),
    });
    expect(await run(['purge', '--scope', 'jobs'])).toMatchObject({ code: 2 });
    const unreached = await run(['purge', '--scope', 'jobs', '--yes', '--json'], {
      env: { REDIS_URL: 'redis://127.0.0.1:1' },
    });
    expect(unreached.code).toBe(4);
    expect(unreached.json()).toMatchObject({ purged: 0, unreachable: { redis: 3, arbiter: 0 } });
    const result = await run(['purge', '--scope', 'jobs', '--yes', '--json']);
    expect(result.code).toBe(0);
    expect(result.json()).toMatchObject({ purged: 3, unreachable: { redis: 0, arbiter: 0 }, complete: true });
    expect(await service.execute('key 1', () => 'anew', { scope: 'jobs' })).toBe('anew');
  });

  it('purges by the name of a caller as users and scopes spell it, and finds nothing again', async () => {
    const { service } = await started();
    const spelled = ['user.id:s:7', 'user.sub:n:7', 'scope:s:7'];
    const others = ['user.id:s:77', 'user.id:s:seven', 'scope:l:2,s:acme,s:7'];
    for (const caller of [...spelled, ...others])
      await service.execute('key', () => caller, { scope: `POST /orders ${caller}` });
    const purge = ['purge', '--principal', '7', '--yes', '--json'];
    const result = await run(purge);
    expect(result.code).toBe(0);
    expect(result.json()).toMatchObject({ purged: 3, complete: true });
    for (const caller of spelled)
      expect(await service.find('key', { scope: `POST /orders ${caller}` })).toBeUndefined();
    for (const caller of others)
      expect(await service.find('key', { scope: `POST /orders ${caller}` })).toBeDefined();
    const again = await run(purge);
    expect(again.code).toBe(1);
    expect(again.json()).toMatchObject({ purged: 0, complete: true });
  });

  it('does not end as done where a purge has left a request in flight', async () => {
    const { service } = await started();
    const held = gate();
    const handled = service.execute('slow', () => held.pass(), { scope: 'jobs' });
    await held.reached();
    const left = await run(['purge', '--scope', 'jobs', '--yes', '--json']);
    expect(left.json()).toMatchObject({ purged: 0, inFlight: 1, complete: true });
    expect(left.code).toBe(4);
    held.open();
    await handled;
    expect(await run(['purge', '--scope', 'jobs', '--yes'])).toMatchObject({ code: 0 });
  });

  it('counts, and cleans up', async () => {
    const { service } = await started({ postgres: { cleanupInterval: false } });
    await service.execute('stays', () => 1);
    await service.execute('goes', () => 1);
    await sql(
      databaseUrl,
      `UPDATE idempotency_cache SET expires_at = now() - interval '1 h' WHERE key = 'goes'`,
    );
    expect((await run(['cleanup', '--json'])).json()).toEqual({ deleted: 1 });
    for (const size of ['0', '99999999999'])
      expect(await run(['cleanup', '--batch-size', size])).toMatchObject({
        code: 2,
        stderr: expect.stringContaining('--batch-size must be a whole number'),
      });
    const stats = (await run(['stats', '--json'])).json<{ rows: number; lastCleanup: number }>();
    expect(stats).toMatchObject({ rows: 1, byState: { completed: 1 } });
    expect(stats.lastCleanup).toBeLessThan(60);
    const told = (await run(['stats'])).stdout;
    expect(told).toMatch(/last cleanup +\d+ s ago/);
    expect(told).toMatch(/hit rate +not known here: set PROMETHEUS_URL/);
    const withoutAnswer = await run(['stats', '--json', '--prometheus-url', 'http://127.0.0.1:1']);
    expect(withoutAnswer).toMatchObject({ code: 0 });
    expect(withoutAnswer.json()).toMatchObject({
      rows: 1,
      lastHour: { unknown: expect.stringContaining('Prometheus cannot be asked') },
    });
    const other = await startApp({ databaseUrl, redisUrl: redis.url, options: { namespace: 'other' } });
    await other.service.execute('theirs', () => 1);
    await other.close();
    expect((await run(['stats', '--json'])).json()).toMatchObject({ rows: 1 });
    expect((await run(['stats', '--json', '--whole-table'])).json()).toMatchObject({ rows: 2 });
  });

  it('ends with a code that says why', async () => {
    expect(await cli(['list'])).toMatchObject({ code: 2, stderr: expect.stringContaining('DATABASE_URL') });
    expect(await cli(['list'], { env: { DATABASE_URL: databaseUrl } })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--no-redis'),
    });
    expect(await run(['lists'])).toMatchObject({ code: 2 });
    expect(await run(['--help'])).toMatchObject({ code: 0 });
    expect(await run(['list'])).toMatchObject({ code: 3, stderr: expect.stringContaining('is missing') });
    const down = await run(['list'], { env: { DATABASE_URL: 'postgres://me:hidden@127.0.0.1:1/none' } });
    expect(down).toMatchObject({ code: 4, stdout: '' });
    expect(down.stderr).not.toContain('hidden');
  });

  it('shows nothing that would move the cursor of a terminal', async () => {
    const { service } = await started();
    await service.execute('key', () => 1, { scope: 'jobs \u001b[31mred' });
    expect((await run(['list'])).stdout).toContain('\\u{1b}[31mred');
  });
});
