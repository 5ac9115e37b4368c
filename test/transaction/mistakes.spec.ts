import { randomUUID } from 'node:crypto';
import { Controller, Inject, Post } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import {
  CreateIdempotencyCache1764000000015,
  Idempotent,
  IdempotencyService,
  type IdempotencyContext,
} from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { sql } from '../support/database';
import { gate } from '../support/gate';
import { KeptLog } from '../support/log';

/** Whether the controller's handlers finish what they have begun. */
let finishes = false;

@Controller()
class OrdersController {
  constructor(
    @Inject(DataSource) private readonly dataSource: DataSource,
    @Inject(IdempotencyService) private readonly idempotency: IdempotencyService,
  ) {}

  @Post('unfinished')
  @Idempotent({ required: true, transaction: true })
  async unfinished(): Promise<boolean> {
    const runner = this.dataSource.createQueryRunner();
    await runner.startTransaction();
    await runner.query(`INSERT INTO effect (note) VALUES ('unfinished')`);
    if (finishes) await runner.commitTransaction();
    return true;
  }

  /** One level deeper than a pool of two can hold. */
  @Post('deep')
  @Idempotent({ required: true, transaction: true })
  deep(): Promise<unknown> {
    const transaction = true;
    const within = (): Promise<number> => this.idempotency.execute('third', () => 1, { transaction });
    return this.idempotency.execute('second', within, { transaction });
  }
}

describe('mistakes in the transaction mode', () => {
  let postgres: RunningPostgres;
  let app: TestApp;
  let service: IdempotencyService;
  let log: KeptLog;
  let key: string;

  beforeAll(async () => {
    postgres = await startPostgres();
    await sql(postgres.url, 'CREATE TABLE effect (note text)');
    log = new KeptLog();
    app = await startApp({
      imports: [
        TypeOrmModule.forRoot({
          type: 'postgres',
          url: postgres.url,
          poolSize: 2,
          migrations: [CreateIdempotencyCache1764000000015],
          migrationsRun: true,
        }),
      ],
      controllers: [OrdersController],
      options: { postgres: { timeout: '30s' } }, // a wait for what never comes would outlast the test
      settings: { logger: log },
    });
    ({ service } = app);
  });
  afterAll(async () => {
    await app.close();
    await postgres.stop();
  });
  beforeEach(() => {
    key = randomUUID();
    log.lines.length = 0;
  });

  const post = async (path: string): Promise<number> =>
    (await app.call(path, { headers: { 'Idempotency-Key': randomUUID() } })).status;

  it('say once what a handler has left unfinished, and not what it has finished', async () => {
    finishes = true;
    expect(await post('/unfinished')).toBe(201);
    expect(log.lines).toEqual([]);
    finishes = false;
    expect(await post('/unfinished')).toBe(201);
    expect(await post('/unfinished')).toBe(201);
    const unfinished = log.lines.filter((line) =>
      line.includes('left a transaction within its own unfinished'),
    );
    expect(unfinished).toEqual([expect.stringContaining('OrdersController.unfinished')]);
    expect(await sql(postgres.url, 'SELECT FROM effect')).toHaveLength(1);
  });

  it('refuse at once a transaction for which the pool is too small', async () => {
    expect(await post('/deep')).toBe(500);
    expect(log.lines.join()).toContain('Set `poolSize` to 3 at least.');
    expect([await service.find('second'), await service.find('third')]).toEqual([undefined, undefined]);
  });

  describe.each([
    ['leased', false],
    ['in a transaction', true],
  ])('of work that is %s', (_, transaction) => {
    const options = { transaction, waitTimeout: '30s' } as const; // as above
    const itself = (): Promise<number> => service.execute(key, () => 1, options);

    it.each<[string, (context: IdempotencyContext) => Promise<number>]>([
      ['itself', itself],
      ['itself in outside()', ({ outside }) => outside(itself)],
      ['itself in other work', () => service.execute(`${key} other`, itself)],
    ])('refuse at once to wait for %s, and leave nothing', async (_name, work) => {
      await expect(service.execute(key, work, options)).rejects.toThrow(/another key, or another scope/);
      expect([await service.find(key), await service.find(`${key} other`)]).toEqual([undefined, undefined]);
      expect(await itself()).toBe(1);
    });

    it('are not the same key in another scope, or after the work is over', async () => {
      const over = gate();
      let later: Promise<number> | undefined;
      const work = async (): Promise<number> => {
        later = over.pass().then(itself);
        return service.execute(key, () => 2, { ...options, scope: 'other' });
      };
      expect(await service.execute(key, work, options)).toBe(2);
      over.open();
      expect(await later).toBe(2);
    });

    it('are not told where the caller does not wait', async () => {
      const work = (): Promise<number> => service.execute(key, () => 1, { ...options, inFlight: 'reject' });
      await expect(service.execute(key, work, options)).rejects.toMatchObject({ code: 'in_flight' });
    });
  });
});
