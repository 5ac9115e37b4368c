import {
  Body,
  Controller,
  Injectable,
  Module,
  Post,
  UseInterceptors,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { Redis } from 'ioredis';
import { randomUUID } from 'node:crypto';
import { Client, type QueryConfig } from 'pg';
import { from, lastValueFrom, of, switchMap, type Observable } from 'rxjs';
import { DataSource } from 'typeorm';
import { place, type Answer, type Order } from './host';
import { start } from './nest';
import { RecentKeys } from '../lib/store/recent-keys';
import { openDataSource } from './rows';

/*
 * The least that the design needs: its conversation with Redis and Postgres (the claim; the outcome; a copy of it; for
 * a replay a read of that copy), what meets in one statement or command, and nothing else. No scope, no fingerprint, no
 * lease, no fence, no time-out, no held response, no headers, no checks in the table. It shows which goals a machine
 * allows. MODE: `floor`, `floor, fast`, or `floor, redis down`, which has no Redis.
 */
const { MODE = 'floor', PLATFORM = 'express', DATABASE_URL = '', REDIS_URL = '' } = process.env;

const table = `"${MODE}, ${PLATFORM}"`;
const redis = MODE === 'floor, redis down' ? undefined : new Redis(REDIS_URL);
const [claiming, completing] = [1, 2].map(() => new Client(DATABASE_URL)) as [Client, Client];

/** What comes while one batch is under way goes with the next. */
function batched<Item, Result>(
  send: (items: Item[]) => Promise<Result[]>,
): (item: Item) => Promise<Result | undefined> {
  let queue: { readonly item: Item; readonly resolve: (result: Result | undefined) => void }[] = [];
  let underWay = false;
  const flush = (): void => {
    if (underWay || queue.length === 0) return;
    underWay = true;
    const batch = queue;
    queue = [];
    void send(batch.map(({ item }) => item)).then((results) => {
      batch.forEach(({ resolve }, index) => resolve(results[index]));
      underWay = false;
      setImmediate(flush);
    });
  };
  return (item) =>
    new Promise((resolve) => {
      queue.push({ item, resolve });
      flush();
    });
}

const FAST = MODE === 'floor, fast' ? `WHERE set_config('synchronous_commit', 'off', true) IS NOT NULL` : '';
const CLAIM_ONE = `INSERT INTO ${table} (id, token) SELECT $1, $2::uuid ${FAST} ON CONFLICT DO NOTHING RETURNING id`;
const CLAIM = `INSERT INTO ${table} (id, token) SELECT * FROM unnest($1::text[], $2::uuid[]) ${FAST} ON CONFLICT DO NOTHING RETURNING id`;
const COMPLETE_ONE = `UPDATE ${table} SET body = $2 WHERE id = $1`;
const COMPLETE = `UPDATE ${table} AS record SET body = item.body FROM unnest($1::text[], $2::text[]) AS item (id, body) WHERE record.id = item.id`;
const READ = `SELECT body FROM ${table} WHERE id = $1`;

const prepared = (name: string, text: string, values: unknown[]): QueryConfig => ({ name, text, values });

/** False if the key has a row. That of a request still in flight is not waited for: the load has no such duplicates. */
const claim = batched(async (ids: string[]) => {
  const alone = ids.length === 1;
  const query = alone
    ? prepared('claim one', CLAIM_ONE, [ids[0], randomUUID()])
    : prepared('claim', CLAIM, [ids, ids.map(() => randomUUID())]);
  const { rows } = await claiming.query<{ id: string }>(query);
  const claimed = new Set(rows.map(({ id }) => id));
  return ids.map((id) => claimed.has(id));
});
const complete = batched(async (items: { id: string; body: string }[]) => {
  const [ids, bodies] = [items.map(({ id }) => id), items.map(({ body }) => body)];
  const alone = items.length === 1;
  await completing.query(
    alone
      ? prepared('complete one', COMPLETE_ONE, [ids[0], bodies[0]])
      : prepared('complete', COMPLETE, [ids, bodies]),
  );
  return [];
});

const get = redis && batched((ids: string[]) => redis.mget(ids));
const put =
  redis &&
  batched(async (items: { id: string; body: string }[]) => {
    const commands = redis.pipeline();
    for (const { id, body } of items) commands.set(id, body, 'PX', 86_400_000);
    await commands.exec();
    return [];
  });

/** What this process has recorded lately: a retry of that reads Redis first, as in `lib/store/claim-order.ts`. */
const recorded = new RecentKeys();

async function known(id: string): Promise<string | null> {
  const copy = recorded.has(id) ? await get?.(id) : undefined;
  if (copy) return copy;
  if (await claim(id)) return null;
  const { rows } = await claiming.query<{ body: string }>(prepared('read', READ, [id]));
  return rows[0]?.body ?? null;
}

@Injectable()
class FloorInterceptor implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const { headers } = context.switchToHttp().getRequest<{ headers: Record<string, string> }>();
    const id = `${MODE}:${PLATFORM}:${headers['idempotency-key']}`;
    return from(known(id)).pipe(
      switchMap((body) => (body === null ? from(this.run(id, next)) : of(JSON.parse(body) as unknown))),
    );
  }

  private async run(id: string, next: CallHandler): Promise<unknown> {
    const answer: unknown = await lastValueFrom(next.handle());
    const body = JSON.stringify(answer);
    await complete({ id, body });
    recorded.add(id);
    // The response goes first.
    setImmediate(() => void put?.({ id, body }));
    return answer;
  }
}

@Controller()
class FloorController {
  constructor(private readonly dataSource: DataSource) {}

  @Post('orders')
  @UseInterceptors(FloorInterceptor)
  place(@Body() order: Order): Answer | Promise<Answer> {
    return place(order, this.dataSource);
  }
}

@Module({
  providers: [{ provide: DataSource, useFactory: () => openDataSource(DATABASE_URL) }],
  controllers: [FloorController],
})
class FloorModule {}

async function main(): Promise<void> {
  await Promise.all([claiming.connect(), completing.connect()]);
  await claiming.query(
    `CREATE TABLE ${table} (id text PRIMARY KEY, token uuid NOT NULL, fence bigserial, body text)`,
  );
  // Its plans are made on an empty table, and stay.
  for (const client of [claiming, completing]) await client.query('SET enable_seqscan = off');
  await start(FloorModule, PLATFORM);
}

void main();
