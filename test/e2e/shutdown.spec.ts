import { randomUUID } from 'node:crypto';
import type { Server } from 'node:http';
import { Controller, Post } from '@nestjs/common';
import { Client } from 'pg';
import { Idempotent, IdempotencyModule } from '../../lib';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { eventually } from '../support/eventually';
import { gate, type Gate } from '../support/gate';

let held: Gate;

@Controller()
class LeadsController {
  @Post('leads')
  @Idempotent()
  async create(): Promise<string> {
    await held.pass();
    return randomUUID();
  }
}

describe('the module at shutdown', () => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let app: TestApp;

  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  });
  afterAll(() => Promise.all([postgres.stop(), redis.stop()]));
  beforeEach(async () => {
    held = gate();
    app = await startApp({ databaseUrl: postgres.url, redisUrl: redis.url, controllers: [LeadsController] });
  });
  afterEach(async () => {
    postgres.kill('SIGCONT');
    redis.kill('SIGCONT');
    await app.close();
  });

  it.each<[string, () => void]>([
    ['Redis frozen', () => redis.kill('SIGSTOP')],
    ['Postgres frozen', () => postgres.kill('SIGSTOP')],
    ['both frozen', () => [redis, postgres].forEach((server) => server.kill('SIGSTOP'))],
  ])('closes what is its own within 5 s, with a request in flight and %s', async (_, freeze) => {
    const lost = app.call('/leads', { headers: { 'idempotency-key': randomUUID() } }).catch(() => 'lost');
    await held.reached();
    freeze();
    held.open();
    const module = app.app.get(IdempotencyModule);
    const before = Date.now();
    await module.onApplicationShutdown();
    expect(Date.now() - before).toBeLessThan(5_000);
    await lost;
  });

  it('waits for work in flight that is no HTTP request, and records it', async () => {
    const key = randomUUID();
    const job = app.service.execute(key, () => held.pass().then(() => 'done'));
    await held.reached();
    const closing = app.app.get(IdempotencyModule).onApplicationShutdown();
    held.open();
    await closing;
    expect(await job).toBe('done');
    const next = await startApp({ databaseUrl: postgres.url });
    expect(await next.service.execute(key, () => 'again')).toBe('done');
    await next.close();
  });

  it('leaves the application’s own connections open', async () => {
    held.open();
    await app.call('/leads', { headers: { 'idempotency-key': randomUUID() } });
    const { DataSource } = await import('typeorm');
    await app.app.get(IdempotencyModule).onApplicationShutdown();
    expect(await app.app.get(DataSource).query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  it.each(['express', 'fastify'] as const)(
    'sends the response that was being recorded when the server closed (%s)',
    async (platform) => {
      const databaseUrl = await postgres.createDatabase();
      const closing = await startApp({ platform, databaseUrl, controllers: [LeadsController] });
      const database = new Client({ connectionString: databaseUrl });
      await database.connect();
      const answer = closing.call('/leads', { headers: { 'idempotency-key': randomUUID() } });
      await held.reached();
      await database.query('BEGIN');
      await database.query('SELECT FROM idempotency_cache FOR UPDATE');
      held.open();
      const WAITING = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
      await eventually(async () => expect((await database.query(WAITING)).rowCount).toBe(1));
      const server = closing.app.getHttpServer() as Server;
      const closed = closing.close();
      await eventually(() => expect(server.listening).toBe(false));
      await database.query('ROLLBACK');
      await database.end();
      expect((await answer).status).toBe(201);
      await closed;
    },
  );
});
