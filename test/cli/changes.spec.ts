import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { IdempotencyAdmin, type AuditEvent, type IdempotencyModuleOptions } from '../../lib';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { command, type CommandResult } from '../support/command';
import { cutWalk } from '../support/cut-walk';
import { eventually } from '../support/eventually';
import { lapse, loseOutcome, sql } from '../support/postgres-store';

describe('a change by the command line', () => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let databaseUrl: string;
  let app: TestApp;
  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  });
  afterAll(() => Promise.all([postgres.stop(), redis.stop()]));
  afterEach(() => app.close());

  const start = async (options: IdempotencyModuleOptions = {}): Promise<void> => {
    databaseUrl = await postgres.createDatabase();
    app = await startApp({ databaseUrl, redisUrl: redis.url, options });
  };
  const run = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<CommandResult> =>
    command([...args, '--yes'], { DATABASE_URL: databaseUrl, REDIS_URL: redis.url, ...env });
  const look = (args: readonly string[]): Promise<CommandResult> =>
    command(args, { DATABASE_URL: databaseUrl, REDIS_URL: redis.url });
  /** A key whose owner is lost. */
  const lose = async (key: string, scope = 'execute'): Promise<void> => {
    const { service } = app;
    const work = service.execute(key, () => new Promise(() => undefined), { lease: '1h', scope });
    void work.catch(() => undefined);
    await eventually(async () => expect(await service.find(key, { scope })).toBeDefined());
    await lapse(databaseUrl, key);
  };

  describe('against a Redis that is not the one of the application', () => {
    let other: RunningRedis;
    beforeAll(async () => {
      other = await startRedis();
    });
    afterAll(() => other.stop());

    it.each<[what: string, args: string[], place: () => string]>([
      ['another server', [], () => other.url],
      ['another database', [], () => Object.assign(new URL(redis.url), { pathname: '/1' }).href],
      ['another prefix', ['--key-prefix', 'other:'], () => redis.url],
    ])('changes nothing: %s', async (_, args, place) => {
      await start();
      await app.service.execute('key', () => 1);
      // Again, as the first must not have left a mark there that the second one finds.
      for (const change of [
        ['purge', '--key', 'key'],
        ['forget', 'key'],
      ]) {
        const refused = await run([...change, ...args], { REDIS_URL: place() });
        expect(refused.stderr).toContain('--unmarked-redis');
        expect(refused).toMatchObject({ code: 3, stdout: '' });
      }
      expect(await app.service.find('key')).toBeDefined();
    });

    it('changes nothing by the prefix of another application in the same table and Redis', async () => {
      await start({ redis: { keyPrefix: 'mine:' } });
      await app.service.execute('key', () => 1);
      const neighbour = await startApp({
        databaseUrl,
        redisUrl: redis.url,
        options: { namespace: 'theirs', redis: { keyPrefix: 'theirs:' } },
      });
      try {
        const theirs = ['forget', 'no such key', '--namespace', 'theirs', '--key-prefix', 'theirs:'];
        await eventually(async () => expect(await run(theirs)).toMatchObject({ code: 1 }));
        expect(await run(['forget', 'key', '--key-prefix', 'theirs:'])).toMatchObject({ code: 3 });
        expect(await run(['forget', 'key', '--key-prefix', 'mine:'])).toMatchObject({ code: 0 });
      } finally {
        await neighbour.close();
      }
    });

    it('changes nothing in the Redis of another table, although the prefix is the same', async () => {
      await start();
      await app.service.execute('key', () => 1);
      const [theirs, mine] = [databaseUrl, await postgres.createDatabase()];
      const neighbour = await startApp({ databaseUrl: mine, redisUrl: other.url });
      try {
        await neighbour.service.execute('key', () => 1);
        expect(await run(['forget', 'key'], { DATABASE_URL: mine })).toMatchObject({ code: 3 });
        expect(await run(['forget', 'key'], { DATABASE_URL: theirs })).toMatchObject({ code: 0 });
      } finally {
        await neighbour.close();
      }
    });

    it('settles nothing, unless it is overridden', async () => {
      await start();
      await lose('lost');
      const env = { REDIS_URL: other.url };
      expect(await run(['resolve', 'lost', '--value', '1'], env)).toMatchObject({ code: 3 });
      expect(await run(['retry', 'lost'], env)).toMatchObject({ code: 3 });
      expect((await look(['show', 'lost'])).stdout).toContain('orphaned');
      expect(await run(['retry', 'lost', '--unmarked-redis'], env)).toMatchObject({ code: 0 });
    });

    it('looks all the same', async () => {
      await start();
      await app.service.execute('key', () => 1);
      for (const verb of [['list'], ['show', 'key'], ['stats']])
        expect(await command(verb, { DATABASE_URL: databaseUrl, REDIS_URL: other.url })).toMatchObject({
          code: 0,
        });
    });
  });

  it('goes to Redis as soon as an application has started, before it has written a copy', async () => {
    await start();
    await eventually(async () => expect(await run(['forget', 'no such key'])).toMatchObject({ code: 1 }));
    expect(await run(['purge', '--key', 'no such key'])).toMatchObject({ code: 1 });
  });

  describe('with an audit', () => {
    let audit: string;
    beforeEach(async () => {
      audit = join(await mkdtemp(join(tmpdir(), 'audit-')), 'audit.log');
    });
    afterEach(() => jest.restoreAllMocks());

    it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
      'ends a purge by %s with what it has done so far',
      async (name) => {
        await start();
        for (const key of ['1', '2', '3']) await app.service.execute(key, () => 1, { scope: 'jobs' });
        cutWalk(() => process.emit(name));
        const stopped = await run(['purge', '--scope', 'jobs', '--json', '--audit', audit]);
        expect(stopped.code).toBe(4);
        expect(JSON.parse(stopped.stdout)).toMatchObject({ purged: 1, complete: false });
        const events = (await readFile(audit, 'utf8')).trim().split('\n');
        expect(events.map((line) => JSON.parse(line) as AuditEvent)).toMatchObject([
          { action: 'purge', result: 'begun', filter: { scope: 'jobs' } },
          { action: 'purge', result: 'stopped', purged: 1 },
        ]);
        expect(process.listenerCount(name)).toBe(0);
      },
    );

    it('changes nothing if the file cannot be written', async () => {
      await start();
      await app.service.execute('key', () => 1);
      const refused = await run(['forget', 'key', '--audit', join(audit, 'no folder')]);
      expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('ENOENT') });
      expect(await app.service.find('key')).toBeDefined();
    });
  });

  it('settles no request with a value, and no execute() with a response', async () => {
    await start();
    await lose('job');
    await lose('request', 'POST /orders');
    const value = ['--value', '1'];
    const response = ['--status', '201'];
    expect(await run(['resolve', 'job', ...response])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('pass --value'),
    });
    expect(await run(['resolve', 'request', ...value])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('pass --status'),
    });
    expect(await run(['resolve', 'job', ...value])).toMatchObject({ code: 0 });
    expect(await run(['resolve', 'request', ...response])).toMatchObject({ code: 0 });
    // It waits for the copy, so that no hint stands in Redis.
    const admin = app.app.get(IdempotencyAdmin);
    for (const record of [{ key: 'job' }, { key: 'request', scope: 'POST /orders' }])
      expect(await admin.show(record)).toMatchObject({ state: 'completed', copy: 'completed' });
  });

  it('says that an outcome which a failover of Postgres has lost is recorded again, as Redis had it', async () => {
    await start();
    const admin = app.app.get(IdempotencyAdmin);
    for (const [key, verb] of [
      ['one', ['resolve', 'one', '--value', '2']],
      ['two', ['retry', 'two']],
    ] as const) {
      await app.service.execute(key, () => 1);
      await eventually(async () => expect((await admin.show({ key }))?.copy).toBe('completed'));
      await loseOutcome(databaseUrl, key);
      expect(await run(verb)).toMatchObject({
        code: 1,
        stdout: expect.stringContaining('the record is completed now'),
      });
      expect(await admin.show({ key })).toMatchObject({ state: 'completed', attempt: 2 });
      const again = await run([...verb, '--json']);
      expect(JSON.parse(again.stdout)).toMatchObject({ changed: false, state: 'completed' });
      expect((await run(verb)).stdout).toContain('Nothing was changed: the record is completed.');
      expect(await app.service.execute(key, () => 2)).toBe(1);
      expect(await run(['forget', key])).toMatchObject({ code: 0 });
      expect(await app.service.execute(key, () => 2)).toBe(2);
    }
  });

  it('writes no response in the clear beside encrypted ones, as keys are not here', async () => {
    const [first, second, another] = Array.from({ length: 3 }, () => randomBytes(32).toString('base64'));
    await start({ encryption: { keys: [second!, first!] } });
    await app.service.execute('key', () => 'a secret');
    await lose('lost');
    const settle = ['resolve', 'lost', '--value', '"another secret"'];
    for (const keys of [undefined, another, first]) {
      const refused = await run(settle, keys ? { IDEMPOTENCY_ENCRYPTION_KEYS: keys } : {});
      expect(refused.stderr).toContain('IDEMPOTENCY_ENCRYPTION_KEYS');
      expect(refused.code).toBe(3);
    }
    const env = { IDEMPOTENCY_ENCRYPTION_KEYS: `${second},${first}` };
    expect(await run(settle, env)).toMatchObject({ code: 0 });
    const rows = await sql<{ body: string }>(
      databaseUrl,
      `SELECT encode(body, 'escape') AS body FROM idempotency_cache WHERE body IS NOT NULL`,
    );
    expect(rows).toHaveLength(2);
    for (const { body } of rows) expect(body).not.toContain('secret');
    const settled = await app.app.get(IdempotencyAdmin).show({ key: 'lost' });
    expect(settled?.outcome?.kind === 'response' && settled.outcome.body.toString()).toBe('"another secret"');
  });

  it('finds its own encrypted responses among thousands of other applications', async () => {
    await start({ encryption: { keys: [randomBytes(32)] } });
    await app.service.execute('key', () => 'a secret');
    await lose('lost');
    await sql(
      databaseUrl,
      `INSERT INTO idempotency_cache (id, fingerprint, token, fence, attempt, state, status, headers, body, created_at,
         completed_at, expires_at, scope, key)
       SELECT sha256(n::text::bytea), sha256('f'), gen_random_uuid(), n, 1, 'completed', 200, '[]', '', now(), now(),
         now() + interval '40 days', 'execute', 'neighbour ' || n
       FROM generate_series(1, 5000) AS n`,
    );
    const refused = await run(['resolve', 'lost', '--value', '"another secret"']);
    expect(refused.stderr).toContain('IDEMPOTENCY_ENCRYPTION_KEYS');
    expect(refused.code).toBe(3);
    const doctor = await look(['doctor', '--json']);
    expect((JSON.parse(doctor.stdout) as { findings: unknown[] }).findings).toContainEqual(
      expect.objectContaining({ check: 'encryption keys', level: 'error' }),
    );
  });

  it('asks for no keys of another application whose records are in the same table', async () => {
    await start({ encryption: { keys: [randomBytes(32)] }, namespace: 'theirs' });
    await app.service.execute('key', () => 1);
    await app.close();
    app = await startApp({ databaseUrl, redisUrl: redis.url });
    await lose('lost');
    expect(await run(['resolve', 'lost', '--value', '1'])).toMatchObject({ code: 0 });
  });
});
