import { randomUUID } from 'node:crypto';
import { Body, Controller, Inject, Post } from '@nestjs/common';
import { Client } from 'pg';
import { DataSource } from 'typeorm';
import { Idempotent } from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { sql } from '../support/database';

/** What a handler does at once, of which something fails before the rest is done. */
const AT_ONCE: Record<string, (dataSource: DataSource) => Promise<unknown>[]> = {
  statements: (dataSource) => [
    dataSource.query('SELECT FROM nowhere'),
    dataSource.query('SELECT pg_sleep(0.1)'),
    dataSource.query("INSERT INTO effect VALUES ('a')"),
  ],
  transactions: (dataSource) => [
    dataSource.transaction((manager) => manager.query('SELECT FROM nowhere')),
    dataSource.transaction((manager) => manager.query("INSERT INTO effect VALUES ('a')")),
  ],
  'a stream': (dataSource) => [
    dataSource.createQueryRunner().stream('SELECT generate_series(1, 10000)'),
    dataSource.query('SELECT FROM nowhere'),
    dataSource.query("INSERT INTO effect VALUES ('a')"),
  ],
  'its own error': (dataSource) => [
    dataSource.query("INSERT INTO effect VALUES ('a')"),
    Promise.reject(new Error('failed')),
  ],
};

@Controller()
class AtOnceController {
  constructor(@Inject(DataSource) private readonly dataSource: DataSource) {}

  @Post('at-once')
  @Idempotent({ transaction: true })
  async atOnce(@Body() { what }: { what: string }): Promise<void> {
    await Promise.all(AT_ONCE[what]!(this.dataSource));
  }
}

/** pg 9 refuses a query that it would have to queue. */
describe('a handler that fails while its statements are under way', () => {
  let postgres: RunningPostgres;
  let app: TestApp;
  beforeAll(async () => {
    postgres = await startPostgres();
    await sql(postgres.url, 'CREATE TABLE effect (note text)');
    app = await startApp({ databaseUrl: postgres.url, controllers: [AtOnceController] });
  });
  afterAll(async () => {
    await app.close();
    await postgres.stop();
  });

  it.each(Object.keys(AT_ONCE))('has pg execute one query at a time: %s', async (what) => {
    const queued: unknown[] = [];
    const prototype = Client.prototype as unknown as { query(this: object, ...args: unknown[]): unknown };
    const send = prototype.query;
    // After an error pg is not ready at once, and has nothing under way: what is asked then it sends as soon as it is.
    const spy = jest.spyOn(prototype, 'query').mockImplementation(function (this: object, ...args) {
      const { _activeQuery: underWay, _queryQueue: queue } = this as {
        _activeQuery: unknown;
        _queryQueue: unknown[];
      };
      if (underWay || queue.length > 0) queued.push(args[0]);
      return send.apply(this, args);
    });
    try {
      const headers = { 'Idempotency-Key': randomUUID() };
      expect((await app.call('/at-once', { headers, body: { what } })).status).toBe(500);
    } finally {
      spy.mockRestore();
    }
    expect(queued).toEqual([]);
    expect(await sql(postgres.url, 'SELECT FROM effect')).toEqual([]);
  });
});
