import { randomUUID } from 'node:crypto';
import { Body, Controller, Inject, Post } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { Idempotent, IdempotencyModule, IdempotencyService } from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import { gate, type Gate } from '../support/gate';
import type { Answer } from '../support/http';

interface Order {
  readonly key: string;
  readonly transaction: boolean;
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
  @Idempotent({ transaction: { timeout: '3s' } })
  async create(@Body() { key, transaction }: Order): Promise<boolean> {
    const write = (note: string): Promise<unknown> =>
      this.dataSource.query('INSERT INTO effect (note) VALUES ($1)', [note]);
    await write(`${key} order`);
    inside++;
    await full?.pass();
    const options = { transaction, scope: 'steps' };
    await this.idempotency.execute(key, () => write(`${key} step`).then(() => true), options);
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

  const post = (transaction: boolean, each = key): Promise<Answer> =>
    app.call('/orders', { headers: { 'Idempotency-Key': each }, body: { key: each, transaction } });
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

  it.each([
    ['leased', false],
    ['in a transaction', true],
  ])('does not wait for requests that wait for it, although they fill the pool: %s', async (_, mode) => {
    full = gate();
    const keys = Array.from({ length: 2 * OPEN }, () => randomUUID());
    const answering = Promise.all(keys.map((each) => post(mode, each)));
    await eventually(() => expect(inside).toBe(OPEN));
    full.open();
    expect((await answering).map(({ status }) => status)).toEqual(keys.map(() => 201));
    for (const each of keys) expect(await effects(each)).toEqual(['order', 'step']);
  });
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
