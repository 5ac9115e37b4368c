import { randomUUID } from 'node:crypto';
import { Agent } from 'node:http';
import type { DataSource } from 'typeorm';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { migrated } from '../support/database';
import { eventually } from '../support/eventually';
import { comparable, isReplay } from '../support/http';
import { startProcess, type AppProcess, type AppProcessOptions } from '../support/processes';

describe('across application processes', () => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let database: DataSource;
  let databaseUrl: string;
  /** Of a Redis that was there and is gone. */
  let goneUrl: string;
  const started: AppProcess[] = [];

  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
    const gone = await startRedis();
    goneUrl = gone.url;
    await gone.stop();
    databaseUrl = await postgres.createDatabase();
    database = await migrated(databaseUrl);
    await database.query('CREATE TABLE leads (id serial PRIMARY KEY, name text)');
    await database.query('CREATE TABLE naive (key text PRIMARY KEY, response text)');
  });
  afterAll(async () => {
    await Promise.all(started.map((each) => each.stop()));
    await database.destroy();
    await Promise.all([postgres.stop(), redis.stop()]);
  });

  const start = async (count: number, more: Partial<AppProcessOptions> = {}): Promise<AppProcess[]> => {
    const apps = await Promise.all(
      Array.from({ length: count }, () => startProcess({ databaseUrl, redisUrl: redis.url, ...more })),
    );
    started.push(...apps);
    return apps;
  };
  const leads = async (name: string): Promise<number> => {
    const rows = await database.query<{ count: string }[]>('SELECT count(*) FROM leads WHERE name = $1', [
      name,
    ]);
    return Number(rows[0]?.count);
  };
  const storm = (apps: readonly AppProcess[], count: number, path: string, name: string, takes = 100) =>
    Promise.all(
      Array.from({ length: count }, (_, i) => apps[i % apps.length]!.post(path, name, { name, takes })),
    );

  describe('of which none has Redis', () => {
    let apps: AppProcess[];
    beforeAll(async () => {
      apps = await start(3, { redisUrl: goneUrl });
    });

    it.each([10, 200])(
      'should handle concurrent duplicates with DB fallback: %i over three processes make one lead and one response',
      async (count) => {
        const name = randomUUID();
        const answers = await storm(apps, count, '/leads', name);
        expect(await leads(name)).toBe(1);
        expect(new Set(answers.map((answer) => JSON.stringify(comparable(answer)))).size).toBe(1);
        expect(answers.filter((answer) => !isReplay(answer))).toHaveLength(1);
        expect(answers[0]?.status).toBe(201);
      },
    );

    it('positive control: the same storm makes duplicates behind "Redis, else database, then write both"', async () => {
      const name = randomUUID();
      await storm(apps, 10, '/naive', name, 1_000);
      expect(await leads(name)).toBeGreaterThan(1);
    });
  });

  describe('with both stores', () => {
    let apps: AppProcess[];
    beforeAll(async () => {
      apps = await start(3);
    });

    it('should handle concurrent duplicates with Redis as well', async () => {
      const name = randomUUID();
      const answers = await storm(apps, 200, '/leads', name);
      expect(await leads(name)).toBe(1);
      expect(new Set(answers.map((answer) => JSON.stringify(comparable(answer)))).size).toBe(1);
    });

    it('should make one lead where the processes disagree on whether Redis is up', async () => {
      const blind = await start(1, { redisUrl: '' });
      const name = randomUUID();
      const answers = await storm([...blind, apps[0]!], 40, '/leads', name);
      expect(await leads(name)).toBe(1);
      expect(new Set(answers.map((answer) => JSON.stringify(comparable(answer)))).size).toBe(1);
    });

    // Each of these ends one of the three.
    it.each<[string, number, () => RunningRedis | RunningPostgres]>([
      ['Redis', 0, () => redis],
      ['Postgres', 1, () => postgres],
    ])(
      'SIGTERM ends the process within 5 s, with a request in flight and %s frozen',
      async (_, i, server) => {
        const app = apps[i]!;
        const name = randomUUID();
        const keepAlive = new Agent({ keepAlive: true });
        const first = app.post('/leads', name, { name, takes: 300 }, { agent: keepAlive });
        await app.handling(name);
        server().kill('SIGSTOP');
        try {
          const before = Date.now();
          app.child.kill('SIGTERM');
          expect((await first).status).toBe(201);
          await app.exited;
          expect(Date.now() - before).toBeLessThan(5_000);
        } finally {
          server().kill('SIGCONT');
          keepAlive.destroy();
        }
      },
    );

    it('SIGTERM lets the request in flight finish, recorded, and the process ends', async () => {
      const app = apps[2]!;
      const name = randomUUID();
      const first = app.post('/leads', name, { name, takes: 500 });
      await app.handling(name);
      app.child.kill('SIGTERM');
      expect((await first).status).toBe(201);
      expect(await app.exited).toBe('SIGTERM');
      const rows = await database.query<{ state: string }[]>(
        'SELECT state FROM idempotency_cache WHERE key = $1',
        [name],
      );
      expect(rows).toEqual([{ state: 'completed' }]);
    });
  });

  describe('when the owner is killed with SIGKILL while its handler runs', () => {
    const crash = async (
      options: AppProcessOptions['options'],
    ): Promise<{ survivor: AppProcess; name: string }> => {
      const [owner, survivor] = await start(2, { options });
      const name = randomUUID();
      const lost = owner!.post('/leads', name, { name, takes: 60_000 }).catch(() => 'lost');
      await owner!.handling(name);
      await owner!.stop();
      expect(await lost).toBe('lost');
      return { survivor: survivor!, name };
    };

    it('onOrphan retry: the next request takes over once the lease has lapsed, as attempt 2', async () => {
      const { survivor, name } = await crash({ lease: 1_000, onOrphan: 'retry' });
      const client = new AbortController();
      const takeover = survivor.post('/leads', name, { name, takes: 60_000 }, { signal: client.signal });
      await survivor.handling(name);
      expect(await leads(name)).toBe(2);
      const rows = await database.query<{ attempt: number }[]>(
        'SELECT attempt FROM idempotency_cache WHERE key = $1',
        [name],
      );
      expect(rows).toEqual([{ attempt: 2 }]);
      client.abort();
      await expect(takeover).rejects.toThrow();
    });

    it('onOrphan reject: every retry is told that the outcome is unknown, and the handler runs at most once', async () => {
      const { survivor, name } = await crash({ lease: 500, onOrphan: 'reject' });
      await eventually(async () => {
        const answer = await survivor.post('/leads', name, { name, takes: 60_000 });
        expect(answer.text).toContain('outcome-unknown');
        expect(answer.status).toBe(409);
      });
      expect(await leads(name)).toBe(1);
    });
  });

  it('a lease shorter than the handler: the heartbeat keeps it, and no other process takes over', async () => {
    const [owner, other] = await start(2, { options: { lease: 1_200, waitTimeout: '20s' } });
    const name = randomUUID();
    const first = owner!.post('/leads', name, { name, takes: 3_000 });
    await owner!.handling(name);
    const second = await other!.post('/leads', name, { name, takes: 3_000 });
    expect(isReplay(second)).toBe(true);
    expect(comparable(second)).toEqual(comparable(await first));
    expect(await leads(name)).toBe(1);
  });

  it('an owner that was frozen for three leases answers with what the one that took over has recorded', async () => {
    const [owner, other] = await start(2, { options: { lease: 800, waitTimeout: '20s' } });
    const name = randomUUID();
    const first = owner!.post('/leads', name, { name, takes: 1_500 });
    await owner!.handling(name);
    owner!.child.kill('SIGSTOP');
    const second = await other!.post('/leads', name, { name, takes: 1_500 });
    expect(JSON.parse(second.text)).toMatchObject({ attempt: 2 });
    owner!.child.kill('SIGCONT');
    const late = await first;
    expect(isReplay(late)).toBe(true);
    expect(comparable(late)).toEqual(comparable(second));
  });
});
