import { startPostgres, startRedis, type RunningPostgres, type RunningServer } from '../../servers';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import { call, isReplay, type Answer } from '../support/http';
import { launchSample, type Sample } from '../support/sample';

describe('an instance of the sample application that is killed in its handler', () => {
  let postgres: RunningPostgres;
  let redis: RunningServer;
  let databaseUrl: string;
  const samples: Sample[] = [];
  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  });
  beforeEach(async () => {
    databaseUrl = await postgres.createDatabase();
  });
  afterEach(async () => {
    for (const { child } of samples) child.kill('SIGKILL');
    await Promise.all(samples.splice(0).map((sample) => sample.exits()));
  });
  afterAll(async () => {
    await Promise.all([postgres.stop(), redis.stop()]);
  });

  const instance = (env: NodeJS.ProcessEnv): Sample => {
    const sample = launchSample({ DATABASE_URL: databaseUrl, REDIS_URL: redis.url, ...env });
    samples.push(sample);
    return sample;
  };
  const webhook = (base: string, signal?: AbortSignal): Promise<Answer> =>
    call(`${base}/api/webhooks/leados`, {
      body: { user_id: 'test', name: 'Test' },
      headers: { authorization: 'Bearer dev-token', 'x-idempotency-key': 'lead-1' },
      signal,
    });
  const leads = async (): Promise<number> =>
    Number((await sql<{ count: string }>(databaseUrl, 'SELECT count(*) FROM leads'))[0]?.count);

  /** Kills an instance once its handler has written its lead. */
  async function killInHandler(env: NodeJS.ProcessEnv, written: () => Promise<void>): Promise<void> {
    const killed = instance({ ...env, SAMPLE_DELAY: '600000' });
    const answer = webhook(await killed.listening()).catch((error: unknown) => error);
    await eventually(written);
    killed.child.kill('SIGKILL');
    await killed.exits();
    expect(await answer).toMatchObject({ code: 'ECONNRESET' });
  }

  it('leaves nothing: the same request runs at once on another instance, and makes one lead', async () => {
    const other = await instance({}).listening();
    await killInHandler({}, async () => {
      const open = await sql(
        databaseUrl,
        `SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE 'INSERT INTO "leads"%'`,
      );
      expect(open).toHaveLength(1);
    });
    const answer = await webhook(other);
    expect(answer.status).toBe(201);
    expect(isReplay(answer)).toBe(false);
    expect(await leads()).toBe(1);
    expect(isReplay(await webhook(other))).toBe(true);
    expect(await leads()).toBe(1);
    const metrics = (await call(`${other}/metrics`, { method: 'GET' })).text;
    expect(metrics).toMatch(/^idempotency_orphans_taken_over_total 0$/m);
  });

  it('leaves a lead and a lease with SAMPLE_TRANSACTION=false: the same request waits', async () => {
    const other = await instance({ SAMPLE_TRANSACTION: 'false' }).listening();
    await killInHandler({ SAMPLE_TRANSACTION: 'false' }, async () => expect(await leads()).toBe(1));
    expect(await webhook(other)).toMatchObject({
      status: 409,
      headers: { 'retry-after': expect.any(String) },
    });
    expect(await leads()).toBe(1);
  });
});
