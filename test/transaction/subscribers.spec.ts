import { Controller, Post } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource, type EntityManager } from 'typeorm';
import { Idempotent } from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import { comparable, isReplay, type Answer } from '../support/http';

let fails = false;

@Controller()
class OrdersController {
  constructor(@InjectDataSource() private readonly dataSource: DataSource) {}

  @Post('orders')
  @Idempotent({ required: true, transaction: { timeout: '2s' } })
  async create(): Promise<unknown> {
    await this.dataSource.query(`INSERT INTO events VALUES ('handler')`);
    const [found] = await this.dataSource.query<{ tenant: string }[]>(
      `SELECT current_setting('app.tenant', true) AS tenant`,
    );
    if (fails) throw new Error('failed');
    return found;
  }
}

const STAGES = [
  'beforeTransactionStart',
  'afterTransactionStart',
  'beforeTransactionCommit',
  'afterTransactionCommit',
  'beforeTransactionRollback',
  'afterTransactionRollback',
] as const;
type Stage = (typeof STAGES)[number];

describe("TypeORM's subscribers and the transaction of a request", () => {
  let server: RunningPostgres;
  let app: TestApp;
  let told: Stage[] = [];
  let does: Partial<Record<Stage, (manager: EntityManager) => Promise<unknown>>> = {};
  beforeAll(async () => {
    server = await startPostgres();
    await sql(server.url, 'CREATE TABLE events (name text)');
    app = await startApp({
      databaseUrl: server.url,
      controllers: [OrdersController],
      options: { postgres: { timeout: '1s' } },
    });
    const subscriber = Object.fromEntries(
      STAGES.map((stage) => [
        stage,
        async ({ manager }: { manager: EntityManager }) => {
          told.push(stage);
          await does[stage]?.(manager);
        },
      ]),
    );
    app.app.get(DataSource).subscribers.push(subscriber);
  });
  afterAll(async () => {
    await app.close();
    await server.stop();
  });
  beforeEach(async () => {
    await sql(server.url, 'DELETE FROM events');
    told = [];
    does = {};
    fails = false;
  });
  const order = (key: string): Promise<Answer> =>
    app.call('/orders', { headers: { 'idempotency-key': key } });
  const events = async (): Promise<string[]> =>
    (await sql<{ name: string }>(server.url, 'SELECT name FROM events')).map(({ name }) => name).sort();
  const writes = (name: string) => (manager: EntityManager) =>
    manager.query('INSERT INTO events VALUES ($1)', [name]);

  it('are told of its start and its commit, and a replay has neither', async () => {
    expect((await order('committed')).status).toBe(201);
    expect(isReplay(await order('committed'))).toBe(true);
    expect(told).toEqual(STAGES.slice(0, 4));
  });

  it('are told of its rollback', async () => {
    fails = true;
    expect((await order('failed')).status).toBe(500);
    expect(told).toEqual([...STAGES.slice(0, 2), ...STAGES.slice(4)]);
  });

  it('set up the transaction for the handler when it starts, and for no other', async () => {
    does.afterTransactionStart = (manager) => manager.query(`SET LOCAL app.tenant = 'acme'`);
    expect((await order('set up')).text).toBe('{"tenant":"acme"}');
    does = {};
    expect((await order('not set up')).text).not.toContain('acme');
  });

  it('write with the handler before the commit, and alone after it', async () => {
    does = { beforeTransactionCommit: writes('before'), afterTransactionCommit: writes('after') };
    await order('written');
    expect(await events()).toEqual(['after', 'before', 'handler']);
  });

  it.each(['beforeTransactionStart', 'afterTransactionStart', 'beforeTransactionCommit'] as const)(
    'that fail at %s keep it from being committed, and a retry runs the handler',
    async (stage) => {
      does[stage] = () => Promise.reject(new Error('refused'));
      expect((await order(stage)).status).toBe(500);
      expect(await events()).toEqual([]);
      does = {};
      expect(isReplay(await order(stage))).toBe(false);
      expect(await events()).toEqual(['handler']);
    },
  );

  it('that fail after the commit change nothing: the client gets the response that a retry gets', async () => {
    does.afterTransactionCommit = () => Promise.reject(new Error('too late'));
    const first = await order('too late');
    expect(first.status).toBe(201);
    expect(comparable(await order('too late'))).toEqual(comparable(first));
    expect(await events()).toEqual(['handler']);
  });

  describe('that never answer', () => {
    const nothingIsHeld = (): Promise<void> =>
      eventually(async () => {
        const { master } = app.app.get(DataSource).driver as unknown as {
          master: { totalCount: number; idleCount: number };
        };
        expect(master.idleCount).toBe(master.totalCount);
        expect(await sql(server.url, `SELECT FROM pg_locks WHERE locktype = 'advisory'`)).toEqual([]);
      });
    const never = (): Promise<never> => new Promise(() => undefined);

    it.each(['beforeTransactionStart', 'afterTransactionStart', 'beforeTransactionCommit'] as const)(
      'at %s hold a request for as long as its transaction may take: 503, and a retry runs the handler',
      async (stage) => {
        does[stage] = never;
        const refused = await order(`never ${stage}`);
        expect([refused.status, refused.text]).toEqual([503, expect.stringContaining('transaction-timeout')]);
        expect(await events()).toEqual([]);
        await nothingIsHeld();
        does = {};
        expect(isReplay(await order(`never ${stage}`))).toBe(false);
        expect(await events()).toEqual(['handler']);
      },
    );

    it('after the commit do not keep the response back', async () => {
      does.afterTransactionCommit = never;
      const first = await order('never after');
      expect(first.status).toBe(201);
      expect(comparable(await order('never after'))).toEqual(comparable(first));
      await nothingIsHeld();
    });

    it('at a rollback do not keep it from taking place', async () => {
      fails = true;
      does = { beforeTransactionRollback: never, afterTransactionRollback: never };
      expect((await order('never back')).status).toBe(500);
      expect(await events()).toEqual([]);
      await nothingIsHeld();
    });

    it('in work that is no HTTP request either', async () => {
      does.beforeTransactionCommit = never;
      const work = app.service.execute('never', () => 1, { transaction: { timeout: '1s' } });
      await expect(work).rejects.toMatchObject({ code: 'transaction_timeout' });
      await nothingIsHeld();
    });
  });
});
