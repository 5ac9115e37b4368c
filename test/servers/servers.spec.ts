import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import Redis from 'ioredis';
import { Client } from 'pg';
import {
  findRedisBinary,
  PgBouncerUnavailableError,
  RedisUnavailableError,
  startPgBouncer,
  startPostgres,
  startRedis,
  type RunningPostgres,
  type RunningRedis,
} from '../../servers';
import { until } from '../support/eventually';

const ROOT = join(__dirname, '..', '..');

async function connected<T>(url: string, use: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

function query(url: string, sql: string): Promise<unknown[]> {
  return connected(url, async (client) => (await client.query<Record<string, unknown>>(sql)).rows);
}

/** The kernel's letter for what a process does: T is stopped; undefined for one that has ended. */
function state(pid: number): string | undefined {
  try {
    const letter = /\) (\w)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1];
    return letter === 'Z' || letter === 'X' ? undefined : letter;
  } catch {
    return undefined;
  }
}

describe('embedded Postgres', () => {
  let postgres: RunningPostgres;
  beforeAll(async () => {
    postgres = await startPostgres();
  });
  afterAll(() => postgres.stop());

  it('is a Postgres 18 that keeps what it commits, in UTF-8', async () => {
    const [row] = await query(
      postgres.url,
      `SELECT current_setting('server_version_num')::int / 10000 AS version, current_setting('fsync') AS fsync,
        current_setting('server_encoding') AS encoding, current_setting('max_connections') AS connections`,
    );
    expect(row).toEqual({ version: 18, fsync: 'on', encoding: 'UTF8', connections: '200' });
  });

  it('makes databases that are copies of a template', async () => {
    const template = await postgres.createDatabase('template "a"');
    await query(template, 'CREATE TABLE t AS SELECT 42 AS answer');
    const copy = await postgres.createDatabase(undefined, 'template "a"');
    expect(await query(copy, 'SELECT answer FROM t')).toEqual([{ answer: 42 }]);
  });

  it('has a system identifier that no server beside it has', async () => {
    const beside = await startPostgres();
    try {
      const IDENTIFIER = 'SELECT system_identifier FROM pg_control_system()';
      expect(await query(beside.url, IDENTIFIER)).not.toEqual(await query(postgres.url, IDENTIFIER));
    } finally {
      await beside.stop();
    }
  });

  it('is frozen and thawed together with its backends', async () => {
    await connected(postgres.url, async (client) => {
      const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
      const backend = rows[0]!.pid;
      postgres.kill('SIGSTOP');
      await until(() => state(postgres.pid) === 'T' && state(backend) === 'T');
      const answer = client.query('SELECT 1 AS one');
      postgres.kill('SIGCONT');
      expect((await answer).rows).toEqual([{ one: 1 }]);
    });
  });

  it('keeps what was committed through a crash and a restart on the same port', async () => {
    await query(postgres.url, 'CREATE TABLE kept AS SELECT 1 AS one');
    const { pid, url } = postgres;
    postgres.kill('SIGKILL');
    await postgres.restart();
    expect(postgres.pid).not.toBe(pid);
    expect(postgres.url).toBe(url);
    expect(await query(url, 'SELECT one FROM kept')).toEqual([{ one: 1 }]);
  });

  it('restarts after only the postmaster was killed, while a backend is busy', async () => {
    await connected(postgres.url, async (client) => {
      const sleeping = client.query('SELECT pg_sleep(60)').catch(String);
      const asleep = `SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'`;
      await until(async () => (await query(postgres.url, asleep)).length === 1);
      process.kill(postgres.pid, 'SIGKILL');
      await postgres.restart();
      expect(await sleeping).toMatch(/terminat/);
    });
    expect(await query(postgres.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  it('is ended by stop() even while it is frozen, more than once, with its data', async () => {
    const frozen = await startPostgres({ settings: { fsync: 'off' }, database: 'mine' });
    const [row] = await query(
      frozen.url,
      `SELECT current_database() AS name, current_setting('fsync') AS fsync,
        current_setting('data_directory') AS folder`,
    );
    const { folder, ...rest } = row as { folder: string };
    expect(rest).toEqual({ name: 'mine', fsync: 'off' });

    frozen.kill('SIGSTOP');
    const before = Date.now();
    await Promise.all([frozen.stop(), frozen.stop()]);
    expect(Date.now() - before).toBeLessThan(7_000);
    expect(state(frozen.pid)).toBeUndefined();
    expect(existsSync(folder)).toBe(false);
    await expect(frozen.restart()).rejects.toThrow(/stopped/);
  });

  it('says why it does not come up', async () => {
    await expect(startPostgres({ settings: { shared_buffers: 'plenty' } })).rejects.toThrow(/shared_buffers/);
    await expect(startPostgres({ port: postgres.port })).rejects.toThrow(/already in use/);
  });
});

describe('embedded Redis', () => {
  let redis: RunningRedis;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.stop());

  function client(url: string): Redis {
    const made = new Redis(url);
    made.on('error', () => undefined);
    return made;
  }

  it('comes back empty from a restart on the same port', async () => {
    const before = client(redis.url);
    await before.set('a', '1');
    expect(await before.get('a')).toBe('1');
    before.disconnect();
    const { pid } = redis;
    await redis.restart();
    expect(redis.pid).not.toBe(pid);
    const after = client(redis.url);
    expect(await after.get('a')).toBeNull();
    await after.quit();
  });

  it('is its own process, which is frozen and thawed', async () => {
    const connection = client(redis.url);
    expect(await connection.info('server')).toContain(`process_id:${redis.pid}\r\n`);
    redis.kill('SIGSTOP');
    await until(() => state(redis.pid) === 'T');
    const answer = connection.ping();
    redis.kill('SIGCONT');
    expect(await answer).toBe('PONG');
    await connection.quit();
  });

  it('is ended by stop() even while it is frozen', async () => {
    const frozen = await startRedis({ args: ['--maxmemory', '2mb'] });
    const connection = client(frozen.url);
    expect(await connection.config('GET', 'maxmemory')).toEqual(['maxmemory', String(2 * 1024 * 1024)]);
    connection.disconnect();
    frozen.kill('SIGSTOP');
    await frozen.stop();
    expect(state(frozen.pid)).toBeUndefined();
  });

  it('says why it does not come up', async () => {
    await expect(startRedis({ port: redis.port })).rejects.toThrow(/already in use/);
    await expect(startRedis({ args: ['--no-such-option', '1'] })).rejects.toThrow(/no-such-option/);
  });

  it('says in one line what to install where there is none', async () => {
    process.env.REDIS_SERVER = '/no/such/redis-server';
    try {
      const error: unknown = await findRedisBinary().catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(RedisUnavailableError);
      expect(String(error)).toMatch(/^RedisUnavailableError: .*install Redis.*$/);
    } finally {
      delete process.env.REDIS_SERVER;
    }
  });
});

it('says in one line what to install where there is no pgbouncer', async () => {
  process.env.PGBOUNCER = '/no/such/pgbouncer';
  try {
    const error: unknown = await startPgBouncer(1).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(PgBouncerUnavailableError);
    expect(String(error)).toMatch(/^PgBouncerUnavailableError: .*install pgbouncer.*$/);
  } finally {
    delete process.env.PGBOUNCER;
  }
});

it('starts servers side by side on ports of their own', async () => {
  const servers = await Promise.all([startPostgres(), startPostgres(), startRedis(), startRedis()]);
  expect(new Set(servers.map((server) => server.port)).size).toBe(4);
  await Promise.all(servers.map((server) => server.stop()));
});

describe('when the process that started the servers ends', () => {
  /** Only Node itself runs here, so the script brings the compiler along. */
  const PARENT = `
    require.extensions['.ts'] = (module, file) => {
      const jsc = { parser: { syntax: 'typescript' }, target: 'es2022' };
      const { code } = require('@swc/core').transformFileSync(file, { jsc, module: { type: 'commonjs' } });
      module._compile(code, file);
    };
    const { startPostgres, startRedis } = require('./servers/index.ts');
    Promise.all([startPostgres(), startRedis()]).then(([postgres, redis]) => {
      if (process.argv[1] === 'frozen') postgres.kill('SIGSTOP');
      console.log(JSON.stringify([postgres.pid, redis.pid]));
      if (process.argv[1] !== 'idle') setInterval(() => undefined, 1000);
    });
  `;

  let temporary: string;
  let parent: ChildProcess;

  beforeEach(() => {
    temporary = mkdtempSync(join(tmpdir(), 'servers-spec-'));
    chmodSync(temporary, 0o755); // Postgres' user has to get in
  });
  afterEach(() => {
    parent.kill('SIGKILL');
    rmSync(temporary, { recursive: true, force: true });
  });

  async function start(how: 'busy' | 'frozen' | 'idle'): Promise<number[]> {
    parent = spawn(process.execPath, ['-e', PARENT, how], {
      cwd: ROOT,
      env: { ...process.env, TMPDIR: temporary },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(createInterface(parent.stdout!), 'line')) as [string];
    return JSON.parse(line) as number[];
  }

  /** The copy of Postgres' binaries is meant to stay. */
  function leftBehind(): string[] {
    return readdirSync(temporary).filter((name) => /-(postgres|redis)-\w{6}$/.test(name));
  }

  it.each([
    ['busy', 'SIGKILL'],
    ['busy', 'SIGTERM'],
    ['frozen', 'SIGKILL'],
  ] as const)('and its %s servers are left to %s, none stays behind', async (how, signal) => {
    const pids = await start(how);
    expect(pids.map(state)).not.toContain(undefined);
    expect(leftBehind()).toHaveLength(2);
    parent.kill(signal);
    await until(() => pids.every((pid) => state(pid) === undefined));
    await until(() => leftBehind().length === 0);
  });

  it('since it has nothing else to do, they do not keep it', async () => {
    const pids = await start('idle');
    if (parent.exitCode === null) await once(parent, 'exit');
    expect(parent.exitCode).toBe(0);
    await until(() => pids.every((pid) => state(pid) === undefined));
    await until(() => leftBehind().length === 0);
  });
});
