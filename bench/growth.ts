import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from 'pg';
import { DataSource } from 'typeorm';
import { recordId, type Outcome } from '../lib/core/record';
import { ExpiredRecordCleanup } from '../lib/store/postgres/cleanup';
import { IdempotencyCache } from '../lib/store/postgres/schema/idempotency-cache.entity';
import { applicationPool } from '../lib/store/postgres/connection/pool';
import { PostgresConnection } from '../lib/store/postgres/connection/postgres.connection';
import { PostgresStore } from '../lib/store/postgres/postgres.store';
import { tableNames } from '../lib/store/postgres/schema/table-name';
import { startPostgres } from '../servers';

/*
 * What a table that has grown costs: claims, completions, replays and cleanup with so many rows in it, each size a
 * database of one real Postgres, in turns, so that noise hits all alike. Then a million expired rows are deleted beside
 * traffic, three times over.
 *
 *   npm run bench:growth                 0 and 1 million rows
 *   npm run bench:growth -- 0 1 10       and 10 million: some minutes, and 15 GB of disk
 *   npm run bench:growth -- 0 0.01       a smoke
 */
const MILLIONS = process.argv.slice(2).map(Number);
const SIZES = (MILLIONS.length > 0 ? MILLIONS : [0, 1]).map((millions) => Math.round(millions * 1e6));
const EXPIRED = Math.min(1e6, Math.max(...SIZES));
const VARIANTS = ['plain', 'partitioned'] as const;
const ROUNDS = 15;
const PER_ROUND = 200;
const BODY = Buffer.from(JSON.stringify({ id: 1, filling: 'x'.repeat(400) }));
const OUTCOME = {
  kind: 'response',
  status: 201,
  headers: [
    ['Content-Type', 'application/json; charset=utf-8'],
    ['Content-Length', String(BODY.length)],
    ['X-Request-Id', randomUUID()],
    ['ETag', 'W/"1d-kRqYkXBzQ0wGv4yhbpVhO1l0m2E"'],
  ],
  body: BODY,
} as const satisfies Outcome;

interface Subject {
  readonly rows: number;
  readonly variant: (typeof VARIANTS)[number];
  readonly url: string;
  readonly dataSource: DataSource;
  readonly connection: PostgresConnection;
  readonly store: PostgresStore;
  readonly cleanup: ExpiredRecordCleanup;
  readonly times: Map<string, number[]>;
}

const MIGRATIONS = join(__dirname, '../migrations');
const SQL = {
  plain: readFileSync(join(MIGRATIONS, '015_idempotency_cache.sql'), 'utf8'),
  partitioned: readFileSync(join(MIGRATIONS, '015_idempotency_cache_partitioned.sql'), 'utf8'),
};

/** Rows as traffic leaves them: most of them live, with responses of 200 bytes to 1 KiB. */
const fill = (from: number, to: number, expiresAt: string): string => `
  INSERT INTO idempotency_cache (id, token, fingerprint, state, attempt, created_at, completed_at, expires_at, status,
    headers, body, scope, key)
  SELECT sha256(i::text::bytea), gen_random_uuid(), sha256('f'), 'completed', 1, now() - interval '31 days',
    now() - interval '31 days', ${expiresAt}, 201, '${JSON.stringify(OUTCOME.headers)}',
    convert_to(left(repeat(md5(i::text), 32), 200 + i % 824), 'UTF8'), 'POST /payments user ' || i % 1000, gen_random_uuid()
  FROM generate_series(${from}, ${to}) AS i`;

async function sql(url: string, ...statements: string[]): Promise<Record<string, string>[]> {
  const client = new Client(url);
  await client.connect();
  try {
    let rows: Record<string, string>[] = [];
    for (const statement of statements) rows = (await client.query<Record<string, string>>(statement)).rows;
    return rows;
  } finally {
    await client.end();
  }
}

async function subject(url: string, rows: number, variant: Subject['variant']): Promise<Subject> {
  await sql(url, SQL[variant]);
  if (rows > 0) {
    const live = `now() + interval '1 day' + random() * interval '29 days'`;
    // The indexes are built afterwards, as inserts in the order of hashes would take many times as long.
    await sql(
      url,
      'SET synchronous_commit = off',
      `SET maintenance_work_mem = '1GB'`,
      'ALTER TABLE idempotency_cache DROP CONSTRAINT idempotency_cache_pkey',
      'DROP INDEX idempotency_cache_expires_at_idx',
      fill(1, rows, live),
      'ALTER TABLE idempotency_cache ADD CONSTRAINT idempotency_cache_pkey PRIMARY KEY (id)',
      'CREATE INDEX idempotency_cache_expires_at_idx ON idempotency_cache (expires_at)',
    );
    await sql(url, 'VACUUM (ANALYZE) idempotency_cache');
    await sql(url, 'CHECKPOINT');
  }
  const dataSource = new DataSource({ type: 'postgres', url, entities: [IdempotencyCache] });
  await dataSource.initialize();
  const connection = new PostgresConnection(applicationPool(dataSource), { timeout: 60_000, poolSize: 4 });
  const names = tableNames(dataSource.getRepository(IdempotencyCache).metadata);
  const store = new PostgresStore(connection, names, { retention: 30 * 86_400_000 });
  const cleanup = new ExpiredRecordCleanup(connection, names, { interval: 3_600_000, batchSize: 1_000 });
  return { rows, variant, url, dataSource, connection, store, cleanup, times: new Map() };
}

const request = (key: string) => ({
  id: recordId('bench', key),
  fingerprint: 'f'.repeat(64),
  token: randomUUID(),
  lease: 30_000,
  takeOver: true,
  bypassCache: false,
  durability: 'durable' as const,
});

/** Claims a fresh key and completes it; the two times in ms. */
async function once(store: PostgresStore): Promise<[claim: number, complete: number]> {
  const before = performance.now();
  const result = await store.claim(request(randomUUID()));
  if (!result.claimed) throw new Error('a fresh key was not claimed');
  const between = performance.now();
  await store.complete(result.claim, OUTCOME);
  return [between - before, performance.now() - between];
}

async function round({ rows, store, times }: Subject): Promise<void> {
  const add = (what: string, ms: number): void => void times.set(what, [...(times.get(what) ?? []), ms]);
  for (let n = 0; n < PER_ROUND; n++) {
    const [claim, complete] = await once(store);
    add('claim', claim);
    add('complete', complete);
  }
  for (let n = 0; n < PER_ROUND && rows > 0; n++) {
    const hash = createHash('sha256').update(String(1 + Math.floor(Math.random() * rows)));
    const id = { ...recordId('bench', 'any'), hash: hash.digest('hex') };
    const before = performance.now();
    const found = await store.find(id);
    add('replay', performance.now() - before);
    if (found?.state !== 'completed') throw new Error('a recorded key was not found');
  }
}

function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): void {
  for (const row of [head, head.map(() => '---'), ...rows]) console.log(`| ${row.join(' | ')} |`);
  console.log('');
}

async function sizes({ url }: Subject): Promise<Record<string, string>> {
  const [row] = await sql(
    url,
    `SELECT sum(pg_relation_size(c.oid)) FILTER (WHERE relkind = 'r' AND relname LIKE 'idempotency_cache%') AS heap,
       sum(pg_relation_size(c.oid)) FILTER (WHERE relkind = 'i' AND relname LIKE '%pkey') AS pkey,
       sum(pg_relation_size(c.oid)) FILTER (WHERE relkind = 'i' AND relname LIKE '%expires_at_idx') AS expiry
     FROM pg_class c WHERE relname LIKE 'idempotency_cache%'`,
  );
  return row ?? {};
}

async function growth(subjects: readonly Subject[]): Promise<void> {
  for (const each of subjects) await round({ ...each, times: new Map() }); // warms up
  for (let n = 0; n < ROUNDS; n++) for (const each of subjects) await round(each);
  const [first] = subjects;
  const rows = await Promise.all(
    subjects.map(async (each) => {
      const { heap, pkey, expiry } = await sizes(each);
      const cell = (what: string): string => {
        const own = percentile(each.times.get(what) ?? [], 0.5);
        const base = percentile(first?.times.get(what) ?? [], 0.5);
        return Number.isNaN(own)
          ? ''
          : `${own.toFixed(3)} ms${Number.isNaN(base) ? '' : ` (${(own / base).toFixed(2)})`}`;
      };
      const perRow = (bytes = '0'): string => (each.rows > 0 ? (Number(bytes) / each.rows).toFixed(0) : '');
      return [each.rows, each.variant, cell('claim'), cell('complete'), cell('replay'), perRow(heap), perRow(pkey), perRow(expiry)]; // prettier-ignore
    }),
  );
  table(['rows', 'table', 'claim', 'complete', 'replay', 'heap B/row', 'key B/row', 'expiry B/row'], rows);
}

/** Claims and completions by 8 at a time until told to stop; the times of each pair. */
async function traffic(store: PostgresStore, until: () => boolean): Promise<number[]> {
  const times: number[] = [];
  const worker = async (): Promise<void> => {
    while (!until()) {
      const [claim, complete] = await once(store);
      times.push(claim + complete);
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  return times;
}

async function cleanup(each: Subject): Promise<void> {
  const rows: (string | number)[][] = [];
  for (let cycle = 1; cycle <= 3; cycle++) {
    const from = 1e9 + cycle * 1e7;
    await sql(each.url, fill(from, from + EXPIRED - 1, `now() - interval '1 minute'`));
    const quietUntil = performance.now() + 5_000;
    const quiet = await traffic(each.store, () => performance.now() > quietUntil);
    const startedAt = performance.now();
    let done = false;
    const cleaning = each.cleanup.runOnce().finally(() => (done = true));
    const busy = await traffic(each.store, () => done);
    const seconds = (performance.now() - startedAt) / 1_000;
    const deleted = await cleaning;
    await sql(each.url, 'VACUUM idempotency_cache'); // what autovacuum does within a minute
    const { heap, pkey } = await sizes(each);
    const times = (list: number[]): string => `${percentile(list, 0.5).toFixed(2)} / ${percentile(list, 0.99).toFixed(2)} ms`; // prettier-ignore
    rows.push([each.rows, each.variant, cycle, deleted, seconds.toFixed(1), times(quiet), times(busy), mega(heap), mega(pkey)]); // prettier-ignore
  }
  table(['rows', 'table', 'cycle', 'deleted', 'seconds', 'quiet p50 / p99', 'during cleanup', 'heap MB', 'key MB'], rows); // prettier-ignore
}

function mega(bytes = '0'): string {
  return (Number(bytes) / 1e6).toFixed(0);
}

async function main(): Promise<void> {
  const postgres = await startPostgres({ settings: { max_wal_size: '4GB', shared_buffers: '512MB' } });
  const subjects: Subject[] = [];
  try {
    for (const variant of VARIANTS) {
      for (const rows of SIZES) subjects.push(await subject(await postgres.createDatabase(), rows, variant));
    }
    console.log(`Medians of ${ROUNDS * PER_ROUND}, one at a time; ratios are to the first line.\n`);
    await growth(subjects);
    for (const each of subjects) if (each.rows === Math.max(...SIZES)) await cleanup(each);
  } finally {
    for (const { connection, dataSource } of subjects) {
      await connection.close();
      await dataSource.destroy();
    }
    await postgres.stop();
  }
}

void main();
