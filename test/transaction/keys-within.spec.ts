import { randomUUID } from 'node:crypto';
import { Body, Controller, Inject, Post } from '@nestjs/common';
import { DataSource } from 'typeorm';
import {
  IdempotencyClaim,
  Idempotent,
  IdempotencyModule,
  IdempotencyService,
  type TransactionContext,
} from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import { gate, type Gate } from '../support/gate';
import type { Answer } from '../support/http';

interface Order {
  readonly key: string;
  readonly transaction: boolean;
  /** What the work is called in. */
  readonly through?: 'outside()' | 'leased work';
  /** Whether the work uses the manager of the request. */
  readonly byManager?: boolean;
}

/** As many transactions as the pool of ten lets be open at once. */
const OPEN = 9;

let fails = false;
let full: Gate | undefined;
let inside = 0;

@Controller()
class OrdersController {
  constructor(
    @Inject(DataSource) private readonly dataSource: DataSource,
    @Inject(IdempotencyService) private readonly idempotency: IdempotencyService,
  ) {}

  @Post('orders')
  @Idempotent({ transaction: { timeout: '20s' } })
  async create(
    @Body() { key, transaction, through, byManager }: Order,
    @IdempotencyClaim() claim: TransactionContext,
  ): Promise<boolean> {
    const write = (note: string, by: Pick<DataSource, 'query'> = this.dataSource): Promise<unknown> =>
      by.query('INSERT INTO effect (note) VALUES ($1)', [note]);
    await write(`${key} order`);
    inside++;
    await full?.pass();
    const options = { transaction, scope: 'steps' };
    const work = (): Promise<boolean> =>
      write(`${key} step`, byManager ? claim.manager : undefined).then(() => true);
    const step = (): Promise<boolean> => this.idempotency.execute(key, work, options);
    if (through === 'outside()') await claim.outside(step);
    else if (through === 'leased work') await this.idempotency.execute(`${key} around`, step);
    else await step();
    if (fails) throw new Error('failed after its step');
    return true;
  }
}

describe('work with a key of its own within the transaction of a request', () => {
  let postgres: RunningPostgres;
  let app: TestApp;
  let key: string;

  beforeAll(async () => {
    postgres = await startPostgres();
    await sql(postgres.url, 'CREATE TABLE effect (note text)');
    app = await startApp({
      databaseUrl: postgres.url,
      controllers: [OrdersController],
      options: { postgres: { timeout: '10s' } }, // half of the requests wait for the others
    });
  });
  afterAll(async () => {
    await app.close();
    await postgres.stop();
  });
  beforeEach(() => {
    fails = false;
    full = undefined;
    inside = 0;
    key = randomUUID();
  });

  const post = (transaction: boolean, each = key, more: Partial<Order> = {}): Promise<Answer> =>
    app.call('/orders', { headers: { 'Idempotency-Key': each }, body: { key: each, transaction, ...more } });
  const effects = async (prefix = key): Promise<string[]> =>
    (await sql<{ note: string }>(postgres.url, 'SELECT note FROM effect WHERE note LIKE $1', [`${prefix} %`]))
      .map(({ note }) => note.slice(prefix.length + 1))
      .sort();

  it.each([
    ['leased', false],
    ['in a transaction', true],
  ])('is committed once, together with its own outcome, although the request fails: %s', async (_, mode) => {
    fails = true;
    expect((await post(mode)).status).toBe(500);
    expect(await effects()).toEqual(['step']);
    fails = false;
    expect((await post(mode)).status).toBe(201);
    expect(await effects()).toEqual(['order', 'step']);
  });

  it.each([undefined, 'outside()', 'leased work'] as const)(
    'refuses the manager of the request in its own transaction, through %s',
    async (through) => {
      expect((await post(true, key, { through, byManager: true })).status).toBe(500);
      expect((await post(true, key, { through, byManager: true })).status).toBe(500); // no value without effects
      expect(await effects()).toEqual([]);
    },
  );

  it.each([
    ['leased', false, undefined],
    ['in a transaction', true, undefined],
    ['in a transaction through outside()', true, 'outside()'],
    ['in a transaction through leased work', true, 'leased work'],
  ] as const)(
    'does not wait for requests that wait for it, although they fill the pool: %s',
    async (_, mode, through) => {
      full = gate();
      const keys = Array.from({ length: 2 * OPEN }, () => randomUUID());
      const answering = Promise.all(keys.map((each) => post(mode, each, { through })));
      await eventually(() => expect(inside).toBe(OPEN));
      full.open();
      expect((await answering).map(({ status }) => status)).toEqual(keys.map(() => 201));
      for (const each of keys) expect(await effects(each)).toEqual(['order', 'step']);
    },
  );
});

describe('a transaction whose handler is still running when the application closes', () => {
  let postgres: RunningPostgres;
  beforeAll(async () => {
    postgres = await startPostgres();
    await sql(postgres.url, 'CREATE TABLE effect (note text)');
  });
  afterAll(() => postgres.stop());

  it('keeps what it writes after that', async () => {
    const app = await startApp({ databaseUrl: postgres.url });
    const dataSource = app.app.get(DataSource);
    const write = (note: string): Promise<unknown> =>
      dataSource.query('INSERT INTO effect (note) VALUES ($1)', [note]);
    const held = gate();
    const work = async (): Promise<never> => {
      await write('before');
      await held.pass();
      await write('after');
      throw new Error('failed at last');
    };
    const job = app.service.execute(randomUUID(), work, { transaction: true });
    const failed = expect(job).rejects.toThrow('failed at last');
    await held.reached();
    await app.app.get(IdempotencyModule).onApplicationShutdown();
    held.open();
    await failed;
    await app.close();
    expect(await sql(postgres.url, 'SELECT note FROM effect')).toEqual([]);
  });
});
