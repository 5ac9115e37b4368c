import { randomUUID } from 'node:crypto';
import type { ChildProcess } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { cli, type CliResult } from '../support/cli';
import { until } from '../support/eventually';
import { sql } from '../support/postgres-store';

/** Each command is a process that loads the module. */
jest.setTimeout(180_000);

describe('a signal to the command', () => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let databaseUrl: string;
  let app: TestApp;
  let holder: Client;
  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  });
  afterAll(() => Promise.all([postgres.stop(), redis.stop()]));
  beforeEach(async () => {
    databaseUrl = await postgres.createDatabase();
    const options = { postgres: { cleanupInterval: false } } as const;
    app = await startApp({ databaseUrl, redisUrl: redis.url, options });
    await app.service.execute('key', () => 1);
    holder = new Client(databaseUrl);
    await holder.connect();
  });
  afterEach(async () => {
    await holder.end();
    await app.close();
  });

  const waiting = (): Promise<unknown[]> =>
    sql(
      databaseUrl,
      `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
    );
  /** Runs a verb up to where it waits for what the holder has locked. */
  const blocked = async (
    args: readonly string[],
  ): Promise<{ child: ChildProcess; ended: Promise<CliResult>; told: () => string }> => {
    let child: ChildProcess | undefined;
    let told = '';
    const ended = cli(args, {
      env: { DATABASE_URL: databaseUrl, REDIS_URL: redis.url },
      onStart: (process) => {
        child = process;
        process.stderr?.on('data', (text) => (told += String(text)));
      },
    });
    await until(async () => (await waiting()).length > 0);
    return { child: child!, ended, told: () => told };
  };

  it.each([
    ['SIGINT', ['list']],
    ['SIGTERM', ['cleanup']],
    ['SIGHUP', ['migrate']],
  ] as const)('%s ends %s, and what Postgres was asked', async (signal, verb) => {
    // The claims of an application would wait behind it.
    await app.close();
    await holder.query('BEGIN; LOCK TABLE idempotency_cache IN ACCESS EXCLUSIVE MODE');
    const { child, ended } = await blocked(verb);
    child.kill(signal);
    expect(await ended).toMatchObject({ signal, stdout: '', stderr: '' });
    await until(async () => (await waiting()).length === 0);
  });

  it('lets a change of one record go on to its end, with its audit', async () => {
    const audit = join(tmpdir(), `${randomUUID()}.log`);
    await holder.query(`BEGIN; SELECT FROM idempotency_cache WHERE key = 'key' FOR UPDATE`);
    const { child, ended, told } = await blocked(['forget', 'key', '--yes', '--audit', audit]);
    child.kill('SIGTERM');
    await until(() => told().includes('SIGTERM: the change goes on to its end'));
    await holder.query('ROLLBACK');
    expect(await ended).toMatchObject({ code: 0, stdout: expect.stringContaining('Done') });
    expect(JSON.parse(await readFile(audit, 'utf8'))).toMatchObject({ action: 'forget', result: 'done' });
    expect(await app.service.find('key')).toBeUndefined();
  });
});
