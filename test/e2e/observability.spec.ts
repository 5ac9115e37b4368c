import { Controller, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import { AggregatorRegistry, register, type MetricObject } from 'prom-client';
import { DataSource } from 'typeorm';
import { CreateIdempotencyCache1764000000015, IdempotencyModule, Idempotent } from '../../lib';
import { IdempotencyCache } from '../../lib/typeorm';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import { gate, type Gate } from '../support/gate';
import { metric } from '../support/metrics';
import type { Answer } from '../support/http';
import { KeptLog } from '../support/log';

@Controller()
class OrdersController {
  static gate: Gate;

  @Post()
  @Idempotent()
  create(): string {
    return 'created';
  }

  @Post('gated')
  @Idempotent()
  async gated(): Promise<string> {
    await OrdersController.gate.pass();
    return 'created';
  }

  @Post('transaction')
  @Idempotent({ transaction: true })
  async inTransaction(): Promise<string> {
    await OrdersController.gate.pass();
    return 'created';
  }
}

@Module({})
class RootModule {}

describe('what an operator sees', () => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let app: TestApp | undefined;

  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  });
  afterAll(() => Promise.all([postgres.stop(), redis.stop()]));
  afterEach(async () => {
    await app?.close();
    app = undefined;
  });

  const start = async (log?: KeptLog): Promise<TestApp> =>
    (app = await startApp({
      databaseUrl: postgres.url,
      redisUrl: redis.url,
      controllers: [OrdersController],
      settings: log && { logger: log },
    }));
  let keys = 0;
  const post = ({ call }: TestApp, path = '/') =>
    call(path, { method: 'POST', headers: { 'Idempotency-Key': `key-${++keys}` } });
  const isUp = (tier: string, value: number): Promise<void> =>
    eventually(async () => expect(await metric(`idempotency_${tier}_up`)).toBe(value));

  it('postgres_up returns to 1 without any request', async () => {
    const opened = await start();
    postgres.kill('SIGKILL');
    expect((await post(opened)).status).toBe(503);
    await isUp('postgres', 0);
    await postgres.restart();
    await isUp('postgres', 1);
    expect((await post(opened)).status).toBe(201);
  });

  it('postgres_up is 0 where Postgres goes while the application starts, and 1 once it is back', async () => {
    const typeOrm = TypeOrmModule.forRootAsync({
      useFactory: () => ({
        type: 'postgres' as const,
        url: postgres.url,
        entities: [IdempotencyCache],
        migrations: [CreateIdempotencyCache1764000000015],
        migrationsRun: true,
      }),
      dataSourceFactory: async (options) => {
        const dataSource = await new DataSource(options!).initialize();
        postgres.kill('SIGKILL');
        return dataSource;
      },
    });
    const context = await NestFactory.createApplicationContext(
      { module: RootModule, imports: [typeOrm, IdempotencyModule.forRoot({ redis: false })] },
      { logger: false, abortOnError: false },
    );
    await isUp('postgres', 0);
    await postgres.restart();
    await isUp('postgres', 1);
    await context.close();
  });

  it('the gauges show the truth after resetMetrics()', async () => {
    await start();
    register.resetMetrics();
    await isUp('postgres', 1);
    await isUp('redis', 1);
    const exposed = await register.metrics();
    expect(exposed).toContain('idempotency_requests_total{outcome="executed"} 0');
    expect(exposed).toContain('idempotency_requests_total{outcome="executed",route="POST /"} 0');
  });

  it('the gauges of a Node cluster are 0 as soon as one worker sees the store down', async () => {
    await start();
    const worker = JSON.stringify(await register.getMetricsAsJSON());
    const up = JSON.parse(worker) as MetricObject[];
    const down = JSON.parse(worker) as (MetricObject & { name: string; values: { value: number }[] })[];
    for (const { name, values } of down)
      if (/idempotency_(redis|postgres)_up/.test(name)) for (const sample of values) sample.value = 0;
    const upOf = async (workers: object[][]): Promise<string[]> =>
      (await AggregatorRegistry.aggregate(workers).metrics())
        .split('\n')
        .filter((line) => /^idempotency_(redis|postgres)_up /.test(line));
    expect(await upOf([up, up, up])).toEqual(['idempotency_redis_up 1', 'idempotency_postgres_up 1']);
    expect(await upOf([up, down, up])).toEqual(['idempotency_redis_up 0', 'idempotency_postgres_up 0']);
  });

  it('a tier that is switched off has no sample, in a Node cluster either', async () => {
    app = await startApp({ databaseUrl: postgres.url, controllers: [OrdersController] });
    const worker = JSON.parse(JSON.stringify(await register.getMetricsAsJSON())) as object[];
    const aggregated = await AggregatorRegistry.aggregate([worker, worker]).metrics();
    expect(aggregated).toContain('idempotency_postgres_up 1');
    expect(aggregated).not.toMatch(/^idempotency_redis_up /m);
  });

  it('an orphan shows in the gauges and the log, without a retry', async () => {
    await start();
    await app?.close();
    await sql(
      postgres.url,
      `INSERT INTO idempotency_cache (id, token, fingerprint, state, attempt, lease_until, created_at, expires_at, scope, key)
       VALUES (sha256('orphan'), gen_random_uuid(), sha256('f'), 'in_progress', 1, now() - interval '1 min', now(),
         now() + interval '1 d', 'POST /payments user.id:s:alice', 'their-key')`,
    );
    const log = new KeptLog();
    await start(log);
    await eventually(async () => expect(await metric('idempotency_orphans')).toBe(1));
    expect(await metric('idempotency_oldest_orphan_seconds')).toBeGreaterThanOrEqual(60);
    expect(await metric('idempotency_last_orphan_look_age_seconds')).toBeLessThan(300);
    const lines = (): string[] => log.lines.filter((line) => line.includes('outcome unknown'));
    await eventually(() => expect(lines()).not.toEqual([])); // told after it is counted
    expect(lines()).toEqual([expect.stringContaining('POST /payments, attempt 1')]);
    expect(lines().join()).not.toMatch(/alice|their-key/);
    await sql(postgres.url, `DELETE FROM idempotency_cache WHERE key = 'their-key'`);
  });

  it.each(['/gated', '/transaction'])('a handler counts as in flight while it runs: %s', async (path) => {
    OrdersController.gate = gate();
    const opened = await start();
    expect(await metric('idempotency_in_flight')).toBe(0);
    const answer = post(opened, path);
    await OrdersController.gate.reached();
    expect(await metric('idempotency_in_flight')).toBe(1);
    OrdersController.gate.open();
    expect((await answer).status).toBe(201);
    expect(await metric('idempotency_in_flight')).toBe(0);
  });

  it('the age of the last cleanup falls with each pass', async () => {
    const age = (): Promise<number> => metric('idempotency_last_cleanup_age_seconds');
    app = await startApp({
      databaseUrl: postgres.url,
      controllers: [OrdersController],
      options: { postgres: { cleanupInterval: '150ms' } },
    });
    let falls = 0;
    let last = await age();
    await eventually(async () => {
      const now = await age();
      if (now < last) falls++;
      last = now;
      expect(falls).toBeGreaterThanOrEqual(3);
    });
    await app.close();
    const then = await age();
    await eventually(async () => expect(await age()).toBeGreaterThan(then + 0.3));
  });

  it('a refusal of Postgres is logged once, however many requests meet it', async () => {
    const log = new KeptLog();
    const opened = await start(log);
    await sql(postgres.url, 'ALTER TABLE idempotency_cache RENAME TO elsewhere');
    try {
      const before = log.lines.length;
      for (let round = 0; round < 3; round++) {
        const answers = await Promise.all(Array.from({ length: 5 }, () => post(opened)));
        expect(answers.map(({ status }) => status)).toEqual([503, 503, 503, 503, 503]);
      }
      const lines = log.lines.slice(before);
      expect(lines).toHaveLength(1);
      expect(lines[0]).toMatch(/Postgres refused to claim.*idempotency_cache.*does not exist/s);
      expect(lines[0]).not.toContain('key-');
    } finally {
      await sql(postgres.url, 'ALTER TABLE elsewhere RENAME TO idempotency_cache');
    }
    expect((await post(opened)).status).toBe(201);
  });

  it('a row that stays locked is logged once, however many requests meet it, and an outage after it as well', async () => {
    const log = new KeptLog();
    app = await startApp({
      databaseUrl: postgres.url,
      controllers: [OrdersController],
      settings: { logger: log },
      options: { postgres: { timeout: '1s' } },
    });
    const opened = app;
    const retry = (): Promise<Answer> =>
      opened.call('/', { method: 'POST', headers: { 'Idempotency-Key': 'locked' } });
    await retry();
    await sql(
      postgres.url,
      `UPDATE idempotency_cache SET state = 'in_progress', lease_until = now() - interval '1 min',
         completed_at = NULL, status = NULL, headers = NULL, body = NULL WHERE key = 'locked'`,
    );
    const locker = opened.app.get(DataSource).createQueryRunner();
    await locker.startTransaction();
    await locker.query(`SELECT FROM idempotency_cache WHERE key = 'locked' FOR UPDATE`);
    const changes = (): string[] =>
      log.lines.filter((line) => /is unavailable|answers again/.test(line)).map((line) => line.slice(0, 23));
    const once = ['Postgres is unavailable', 'Postgres answers again '];
    for (let round = 0; round < 3; round++) {
      expect((await retry()).status).toBe(503);
      expect((await post(opened)).status).toBe(201);
    }
    expect(changes()).toEqual(once);
    await locker.rollbackTransaction();
    await locker.release();
    postgres.kill('SIGKILL');
    expect((await post(opened)).status).toBe(503);
    await eventually(async () => expect(changes()).toEqual([...once, once[0]]));
    await postgres.restart();
    await eventually(async () => expect(changes()).toEqual([...once, ...once]));
  });
});
