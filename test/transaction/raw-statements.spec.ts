import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { Body, Controller, HttpCode, Inject, Post } from '@nestjs/common';
import { Client, Query } from 'pg';
import { DataSource } from 'typeorm';
import { Idempotent } from '../../lib';
import { appOnServers } from '../support/app-on-servers';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import { comparable, isReplay, type Answer } from '../support/http';

interface Order {
  readonly key: string;
  readonly statements: readonly string[];
  readonly swallow?: boolean;
  readonly fail?: boolean;
  /** Whether statements are objects of pg, which a client submits. */
  readonly submit?: boolean;
}

let runs = 0;

@Controller()
class StatementsController {
  constructor(@Inject(DataSource) private readonly dataSource: DataSource) {}

  /** Writes, and then sends what it is told to. */
  @Post()
  @HttpCode(200)
  @Idempotent({ required: true, transaction: true })
  async run(@Body() { key, statements, swallow, fail, submit }: Order): Promise<unknown> {
    runs++;
    await this.dataSource.query('INSERT INTO effect (key) VALUES ($1)', [key]);
    for (const statement of statements)
      await (submit ? this.submit(statement) : this.dataSource.query(statement)).catch((error: unknown) => {
        if (!swallow) throw error;
      });
    if (fail) throw new Error('failed');
    return { runs };
  }

  private async submit(statement: string): Promise<void> {
    const client = (await this.dataSource.createQueryRunner().connect()) as Client;
    const query = new Query(statement);
    const ended = once(query, 'end');
    client.query(query);
    await ended;
  }
}

const ENDING = [
  'COMMIT',
  ' commit work',
  'COMMIT AND CHAIN',
  'END',
  'ROLLBACK',
  'rollback transaction',
  'ABORT',
  '/* by hand */\n-- now\nCOMMIT',
  ' ; ;\tCOMMIT',
  `PREPARE TRANSACTION 'later'`,
];

const HARMLESS: Record<string, readonly string[]> = {
  'a COMMIT in a comment': ['/* not /* now: */ COMMIT */ SELECT 1', '-- COMMIT\nSELECT 1'],
  'a BEGIN, of which Postgres only warns': ['BEGIN'],
  'a savepoint that stays open': ['SAVEPOINT mine', `INSERT INTO note VALUES ('kept')`],
  'a savepoint with the name of one of TypeORM': ['SAVEPOINT typeorm_1'],
  'a return to a savepoint': ['SAVEPOINT mine', `INSERT INTO note VALUES ('undone')`, 'ROLLBACK TO mine'],
  'a return to a savepoint, in other words': ['SAVEPOINT mine', 'rollback work to savepoint mine'],
  'a temporary table with the name of the records': [
    'CREATE TEMP TABLE idempotency_cache (id int) ON COMMIT DROP',
  ],
  'a table that is made and dropped': ['CREATE TABLE made (id int)', 'DROP TABLE made'],
  'a lock of a whole table': ['LOCK TABLE effect IN ACCESS EXCLUSIVE MODE'],
  'advisory locks of its own': ['SELECT pg_advisory_lock(5)', 'SELECT pg_advisory_unlock_all()'],
  'a cursor that outlives it': [
    'DECLARE rows CURSOR WITH HOLD FOR SELECT generate_series(1, 3)',
    'CLOSE ALL',
  ],
  'LISTEN and NOTIFY': ['LISTEN channel', 'NOTIFY channel', 'UNLISTEN *'],
  'a time-out for statements': [`SET LOCAL statement_timeout = '1s'`, `SET LOCAL lock_timeout = '1ms'`],
  'a commit that would not be flushed': ['SET LOCAL synchronous_commit = off'],
  'other formats': [
    `SET LOCAL datestyle = 'German'`,
    `SET LOCAL timezone = 'Asia/Kolkata'`,
    `SET LOCAL bytea_output = 'escape'`,
    'SET LOCAL extra_float_digits = -10',
    'SET LOCAL standard_conforming_strings = off',
  ],
  'no triggers': ['SET LOCAL session_replication_role = replica'],
};

const BREAKING: Record<string, readonly [statement: string, status: number]> = {
  'a COMMIT of a block of PL/pgSQL': ['DO $$ BEGIN COMMIT; END $$', 500],
  'a VACUUM': ['VACUUM effect', 500],
  'DISCARD ALL': ['DISCARD ALL', 500],
  'a statement that is cancelled': ['SELECT pg_cancel_backend(pg_backend_pid())', 500],
  'a session that is ended': ['SELECT pg_terminate_backend(pg_backend_pid())', 503],
  'a ROLLBACK behind another statement': ['SELECT 1; ROLLBACK', 500],
};

describe('a handler in a transaction that sends', () => {
  const servers = appOnServers({ controllers: [StatementsController] });
  let key: string;

  beforeAll(() => sql(servers.postgres.url, 'CREATE TABLE effect (key text); CREATE TABLE note (note text)'));
  beforeEach(() => {
    runs = 0;
    key = randomUUID();
  });

  const post = (statements: readonly string[], more: Partial<Order> = {}): Promise<Answer> =>
    servers.app.call('/', { headers: { 'Idempotency-Key': key }, body: { key, statements, ...more } });
  const effects = async (): Promise<number> =>
    (await sql(servers.postgres.url, 'SELECT FROM effect WHERE key = $1', [key])).length;
  const isRecorded = async (first: Answer, retry: Promise<Answer>): Promise<void> => {
    const answer = await retry;
    expect([first.status, isReplay(answer), comparable(answer)]).toEqual([200, true, comparable(first)]);
    expect([runs, await effects()]).toEqual([1, 1]);
  };

  describe.each(ENDING)('what would end it: %j', (statement) => {
    it('is told so, and leaves nothing', async () => {
      for (let tries = 1; tries <= 2; tries++) {
        const answer = await post([statement]);
        expect([answer.status, answer.text]).toEqual([500, expect.stringContaining('transaction-broken')]);
      }
      expect([runs, await effects()]).toEqual([2, 0]);
    });

    it('is told so where it submits an object of pg', async () => {
      const answer = await post([statement], { submit: true });
      expect([answer.status, answer.text]).toEqual([500, expect.stringContaining('transaction-broken')]);
      expect([runs, await effects()]).toEqual([1, 0]);
    });

    it('has it committed by the module where it goes on', async () => {
      const first = await post([statement], { swallow: true });
      await isRecorded(first, post([statement], { swallow: true }));
    });
  });

  it.each(Object.keys(HARMLESS))('%s: its effect is there once, with its response', async (name) => {
    const first = await post(HARMLESS[name]!);
    await isRecorded(first, post(HARMLESS[name]!));
  });

  it.each(Object.keys(BREAKING))('%s, and goes on: it leaves nothing', async (name) => {
    const [statement, status] = BREAKING[name]!;
    for (let tries = 1; tries <= 2; tries++)
      expect((await post([statement], { swallow: true })).status).toBe(status);
    expect([runs, await effects()]).toEqual([2, 0]);
    [runs, key] = [0, randomUUID()];
    await isRecorded(await post([]), post([]));
  });

  it('a COMMIT behind another statement: it is found, and what was committed stays', async () => {
    const answer = await post(['SELECT 1; COMMIT']);
    expect([answer.status, answer.text]).toEqual([500, expect.stringContaining('transaction-broken')]);
    expect(await effects()).toBe(1);
  });

  it('a NOTIFY: it is heard if the request is committed', async () => {
    const heard: (string | undefined)[] = [];
    const listener = new Client({ connectionString: servers.postgres.url });
    listener.on('notification', ({ payload }) => heard.push(payload));
    await listener.connect();
    try {
      await listener.query('LISTEN news');
      expect((await post([`NOTIFY news, 'failed'`], { fail: true })).status).toBe(500);
      key = randomUUID();
      expect((await post([`NOTIFY news, 'committed'`])).status).toBe(200);
      await eventually(() => expect(heard).toEqual(['committed']));
    } finally {
      await listener.end();
    }
  });

  it('DEALLOCATE ALL, with which the statements of the module are lost: a retry is committed', async () => {
    // The pool gives the connection again that was used last: a new one has no statements to lose yet.
    expect((await post([])).status).toBe(200);
    key = randomUUID();
    expect((await post(['DEALLOCATE ALL'])).status).toBe(503);
    expect(await effects()).toBe(0);
    runs = 0;
    await isRecorded(await post(['DEALLOCATE ALL']), post(['DEALLOCATE ALL']));
  });
});
