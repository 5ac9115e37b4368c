import Redis from 'ioredis';
import { Client } from 'pg';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows as unknown[];
  } finally {
    await client.end();
  }
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe('embedded Postgres', () => {
  let postgres: RunningPostgres;
  beforeAll(async () => {
    postgres = await startPostgres();
  });
  afterAll(() => postgres.stop());

  it('answers queries, in databases that are copies of a template', async () => {
    const template = await postgres.createDatabase('template_a');
    await query(template, 'CREATE TABLE t AS SELECT 42 AS answer');
    const copy = await postgres.createDatabase('copy_a', 'template_a');
    expect(await query(copy, 'SELECT answer FROM t')).toEqual([{ answer: 42 }]);
  });

  it('keeps what was committed through a crash and a restart', async () => {
    await query(postgres.url, 'CREATE TABLE kept AS SELECT 1 AS one');
    postgres.kill('SIGKILL');
    await postgres.restart();
    expect(await query(postgres.url, 'SELECT one FROM kept')).toEqual([{ one: 1 }]);
  });

  it('is ended by stop() even while it is frozen', async () => {
    const frozen = await startPostgres();
    frozen.kill('SIGSTOP');
    await frozen.stop();
    expect(alive(frozen.pid)).toBe(false);
  });
});

describe('embedded Redis', () => {
  let redis: RunningRedis;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.stop());

  it('answers commands, and comes back empty from a restart', async () => {
    const before = new Redis(redis.url);
    await before.set('a', '1');
    await before.quit();
    await redis.restart();
    const after = new Redis(redis.url);
    expect(await after.get('a')).toBeNull();
    await after.quit();
  });

  it('runs beside others on ports of their own', async () => {
    const others = await Promise.all([startRedis(), startRedis()]);
    expect(new Set([redis.port, ...others.map((other) => other.port)]).size).toBe(3);
    await Promise.all(others.map((other) => other.stop()));
  });
});
