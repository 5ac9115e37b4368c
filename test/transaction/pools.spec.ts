import { randomUUID } from 'node:crypto';
import { Controller, Inject, Post } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { DataSource, type DataSourceOptions } from 'typeorm';
import {
  CreateIdempotencyCache1764000000015,
  Idempotent,
  IdempotencyClaim,
  IdempotencyService,
  type TransactionContext,
} from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { sql } from '../support/database';
import { call, type Answer } from '../support/http';

@Controller()
class OrdersController {
  constructor(
    @Inject(DataSource) private readonly dataSource: DataSource,
    @Inject(IdempotencyService) private readonly idempotency: IdempotencyService,
  ) {}

  private async write(note: string): Promise<void> {
    await this.dataSource.query('INSERT INTO effect (note) VALUES ($1)', [note]);
  }

  @Post('joins')
  @Idempotent({ required: true, transaction: true })
  async joins(@IdempotencyClaim() { key }: TransactionContext): Promise<unknown> {
    await this.write(key);
    await this.dataSource.transaction((manager) => manager.query('SELECT 1'));
    await this.dataSource.createQueryRunner('slave').query('SELECT 1');
    return { key };
  }

  @Post('nests')
  @Idempotent({ required: true, transaction: { timeout: '2s' } })
  async nests(@IdempotencyClaim() { key }: TransactionContext): Promise<unknown> {
    await this.write(key);
    return this.idempotency.execute(`within ${key}`, () => this.write(`${key} within`).then(() => 1), {
      transaction: true,
    });
  }

  @Post('leaves')
  @Idempotent({ required: true, transaction: { timeout: '1s' } })
  async leaves(@IdempotencyClaim() { key, outside }: TransactionContext): Promise<unknown> {
    await this.write(key);
    await outside(() => this.write(`${key} outside`));
    return { key };
  }
}

describe('transactions over a small pool', () => {
  let postgres: RunningPostgres;
  let app: TestApp;

  beforeAll(async () => {
    postgres = await startPostgres();
    await sql(postgres.url, 'CREATE TABLE effect (note text)');
  });
  afterEach(() => app.close());
  afterAll(() => postgres.stop());

  const start = async (poolSize: number): Promise<string[]> => {
    const warnings: string[] = [];
    const ignore = (): void => undefined;
    const logger = {
      warn: (message: string) => void warnings.push(message),
      ...{ log: ignore, error: ignore, debug: ignore, verbose: ignore },
    };
    app = await startApp({
      imports: [
        TypeOrmModule.forRoot({
          type: 'postgres',
          url: postgres.url,
          poolSize,
          migrations: [CreateIdempotencyCache1764000000015],
          migrationsRun: true,
        }),
      ],
      controllers: [OrdersController],
      options: { postgres: { timeout: '5s' } },
      settings: { logger },
    });
    return warnings;
  };
  const post = (path: string, key: string): Promise<Answer> =>
    call(`${app.url}/${path}`, { headers: { 'Idempotency-Key': key } });
  const effects = async (key: string): Promise<string[]> =>
    (await sql<{ note: string }>(postgres.url, 'SELECT note FROM effect WHERE note LIKE $1', [`${key}%`]))
      .map(({ note }) => note.slice(key.length).trim())
      .sort();
  const burst = async (path: string): Promise<void> => {
    const keys = Array.from({ length: 20 }, () => randomUUID());
    const answers = await Promise.all(keys.flatMap((key) => [post(path, key), post(path, key)]));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]));
    for (const key of keys) expect((await effects(key))[0]).toBe('');
  };

  describe('of one connection', () => {
    it('run one after another, whatever joins them, and a warning says so', async () => {
      const warnings = await start(1);
      expect(warnings).toEqual([expect.stringContaining('Set `poolSize` to 2')]);
      await burst('joins');
    });

    it('refuse at once what would wait for the connection that they hold, and leave nothing', async () => {
      await start(1);
      const key = randomUUID();
      const from = performance.now();
      expect((await post('nests', key)).status).toBe(500);
      expect(performance.now() - from).toBeLessThan(2_000);
      expect(await effects(key)).toEqual([]);
      const failed = app.service.execute(
        key,
        () => app.service.execute('within', () => 1, { transaction: true }),
        {
          transaction: true,
        },
      );
      await expect(failed).rejects.toThrow(/one connection/);
    });

    it('end at their time-out where they wait for it outside, and the next one runs', async () => {
      await start(1);
      const key = randomUUID();
      expect((await post('leaves', key)).status).toBe(503);
      expect(await effects(key)).not.toContain('');
      await burst('joins');
    });
  });

  describe('of two connections', () => {
    it.each(['joins', 'nests', 'leaves'])('end, each with its effect: %s', async (path) => {
      const warnings = await start(2);
      await burst(path);
      expect(warnings).toEqual([]);
    });
  });
});

describe('a DataSource with replicas', () => {
  it('is written to and read on its master within a transaction, and nowhere else', async () => {
    const postgres = await startPostgres();
    let app: TestApp | undefined;
    try {
      // Lacks every table: a statement that reaches it fails.
      const replica = await postgres.createDatabase();
      await sql(postgres.url, 'CREATE TABLE effect (note text)');
      const options: DataSourceOptions = {
        type: 'postgres',
        replication: { master: { url: postgres.url }, slaves: [{ url: replica }] },
        migrations: [CreateIdempotencyCache1764000000015],
        migrationsRun: true,
      };
      app = await startApp({ imports: [TypeOrmModule.forRoot(options)], options: { postgres: {} } });
      const dataSource = app.app.get(DataSource);
      await expect(dataSource.createQueryRunner('slave').query('SELECT FROM effect')).rejects.toThrow(
        /effect/,
      );
      const count = (): Promise<{ count: string }[]> =>
        dataSource.createQueryRunner('slave').query('SELECT count(*) FROM effect');
      const work = async (): Promise<string | undefined> => {
        await dataSource.query(`INSERT INTO effect VALUES ('a')`);
        return (await count())[0]?.count;
      };
      for (let tries = 0; tries < 2; tries++)
        expect(await app.service.execute('key', work, { transaction: true })).toBe('1');
      expect(await sql(postgres.url, 'SELECT note FROM effect')).toEqual([{ note: 'a' }]);
    } finally {
      await app?.close();
      await postgres.stop();
    }
  });
});
