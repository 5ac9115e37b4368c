import { randomUUID } from 'node:crypto';
import { PassThrough, Readable } from 'node:stream';
import { Controller, Inject, Post, Res, StreamableFile } from '@nestjs/common';
import { concatMap, from, map, type Observable } from 'rxjs';
import { DataSource } from 'typeorm';
import { Idempotent, IdempotencyClaim, type TransactionContext } from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { raw, type AnyResponse } from '../e2e/responses/runs';
import { startApp, type Platform, type TestApp } from '../support/app';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import { gate, type Gate } from '../support/gate';
import { comparable, isReplay, type Answer } from '../support/http';

let held: Gate | undefined;
let runs = 0;
let fails = false;

@Controller()
@Idempotent({ required: true, transaction: { timeout: '1500ms' } })
class FeedsController {
  constructor(@Inject(DataSource) private readonly dataSource: DataSource) {}

  private async write(key: string, what: string): Promise<string> {
    await this.dataSource.query('INSERT INTO effect (key, what) VALUES ($1, $2)', [key, what]);
    return what;
  }

  /** Writes with each of its parts. */
  private async *parts(key: string): AsyncGenerator<string> {
    runs++;
    yield await this.write(key, 'first ');
    await held?.pass();
    if (fails) throw new Error('failed half-way');
    yield await this.write(key, 'second');
  }

  @Post('file')
  file(@IdempotencyClaim() { key }: TransactionContext): StreamableFile {
    return new StreamableFile(Readable.from(this.parts(key)));
  }

  @Post('generated')
  async *generated(@IdempotencyClaim() { key }: TransactionContext): AsyncGenerator<string> {
    yield* this.parts(key);
  }

  @Post('web')
  web(@IdempotencyClaim() { key }: TransactionContext): unknown {
    return Readable.toWeb(Readable.from(this.parts(key)));
  }

  @Post('fetched')
  fetched(@IdempotencyClaim() { key }: TransactionContext): Response {
    const source = this.parts(key);
    const body = new ReadableStream({
      pull: async (controller) => {
        const { done, value } = await source.next();
        if (done) controller.close();
        else controller.enqueue(Buffer.from(value));
      },
    });
    return new Response(body, { status: 202 });
  }

  @Post('values')
  values(@IdempotencyClaim() { key }: TransactionContext): Observable<unknown> {
    runs++;
    return from(['first ', 'second']).pipe(
      concatMap((what) => this.write(key, what)),
      map((what) => {
        if (fails && what === 'second') throw new Error('failed half-way');
        return { what };
      }),
    );
  }

  @Post('events')
  async events(@IdempotencyClaim() { key }: TransactionContext, @Res() response: AnyResponse): Promise<void> {
    const node = raw(response);
    node.writeHead(200, { 'Content-Type': 'text/event-stream' });
    try {
      for await (const what of this.parts(key)) node.write(`data: ${what}\n\n`);
    } catch (error) {
      node.destroy();
      throw error;
    }
    node.end();
  }

  @Post('piped')
  piped(@IdempotencyClaim() { key }: TransactionContext, @Res() response: AnyResponse): void {
    const through = new PassThrough();
    Readable.from(this.parts(key))
      .on('error', (error) => through.destroy(error))
      .pipe(through);
    through.on('error', () => raw(response).destroy());
    through.pipe(raw(response));
  }

  @Post('rows')
  async rows(@IdempotencyClaim() { key, manager }: TransactionContext): Promise<StreamableFile> {
    runs++;
    await this.write(key, 'first ');
    await this.write(key, 'second');
    const rows = await manager
      .createQueryBuilder()
      .select('what')
      .from('effect', 'effect')
      .where('key = :key', { key })
      .stream();
    return new StreamableFile(rows.map(({ what }: { what: string }) => what));
  }
}

const STREAMS = ['file', 'events', 'piped'] as const;

describe.each<Platform>(['express', 'fastify'])('a response in parts, in a transaction on %s', (platform) => {
  let postgres: RunningPostgres;
  let app: TestApp;
  let key: string;

  beforeAll(async () => {
    postgres = await startPostgres();
    await sql(postgres.url, 'CREATE TABLE effect (key text, what text)');
    app = await startApp({ platform, databaseUrl: postgres.url, controllers: [FeedsController] });
  });
  afterAll(async () => {
    await app.close();
    await postgres.stop();
  });
  beforeEach(() => {
    held = undefined;
    fails = false;
    runs = 0;
    key = randomUUID();
  });
  afterEach(() =>
    eventually(async () =>
      expect(await sql(postgres.url, `SELECT FROM pg_locks WHERE locktype = 'advisory'`)).toEqual([]),
    ),
  );

  const post = (path: string, signal?: AbortSignal): Promise<Answer> =>
    app.call(`/${path}`, { headers: { 'Idempotency-Key': key }, signal });
  const effects = async (): Promise<string[]> =>
    (await sql<{ what: string }>(postgres.url, 'SELECT what FROM effect WHERE key = $1', [key])).map(
      ({ what }) => what,
    );

  it.each([...STREAMS, 'rows', 'values', 'generated', 'web', 'fetched'])(
    'is committed with all that its parts have written: %s',
    async (path) => {
      const first = await post(path);
      expect(first.status).toBeLessThan(300);
      expect(first.text).toContain('second');
      const retry = await post(path);
      expect([isReplay(retry), comparable(retry)]).toEqual([true, comparable(first)]);
      expect([runs, await effects()]).toEqual([1, ['first ', 'second']]);
    },
  );

  it.each([...STREAMS, 'values', 'generated', 'web', 'fetched'])(
    'that fails half-way leaves nothing, and a retry has all: %s',
    async (path) => {
      fails = true;
      const first = await post(path).catch(() => undefined);
      expect(first?.status ?? 500).toBe(500);
      expect(await effects()).toEqual([]);
      fails = false;
      expect((await post(path)).text).toContain('second');
      expect([runs, await effects()]).toEqual([2, ['first ', 'second']]);
    },
  );

  it.each(STREAMS)(
    'whose client leaves half-way is there once, with its effects, or not at all: %s',
    async (path) => {
      held = gate();
      const leaving = new AbortController();
      const lost = post(path, leaving.signal).catch(() => undefined);
      await held.reached();
      leaving.abort();
      await lost;
      held.open();
      const answer = await eventually(async () => {
        const retry = await post(path);
        expect([200, 201, 409]).toContain(retry.status);
        expect(retry.text).not.toContain('in-flight');
        return retry;
      });
      held = undefined;
      expect(await effects()).toEqual(['first ', 'second']);
      if (answer.status !== 409) expect(answer.text).toContain('second');
      expect(comparable(await post(path))).toEqual(comparable(answer));
    },
  );

  it.each(STREAMS)(
    'that takes longer than its transaction may is rolled back, and a retry has all: %s',
    async (path) => {
      held = gate();
      const late = await post(path);
      expect([late.status, late.text]).toEqual([503, expect.stringContaining('transaction-timeout')]);
      expect(await effects()).toEqual([]);
      held.open();
      held = undefined;
      const retry = await eventually(async () => {
        const answer = await post(path);
        expect(answer.text).toContain('second');
        return answer;
      });
      expect(retry.status).toBeLessThan(300);
      expect(await effects()).toEqual(['first ', 'second']);
    },
  );
});
