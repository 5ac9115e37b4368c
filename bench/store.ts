import { randomUUID } from 'node:crypto';
import { DataSource } from 'typeorm';
import { recordId, type Outcome } from '../lib/core/record';
import type { BatchBounds } from '../lib/store/batching/batcher';
import { BATCH_BOUNDS } from '../lib/store/postgres/batches';
import { IdempotencyCache } from '../lib/store/postgres/schema/idempotency-cache.entity';
import { CreateIdempotencyCache1764000000015 } from '../lib/store/postgres/schema/migration';
import { applicationPool } from '../lib/store/postgres/connection/pool';
import { PostgresConnection } from '../lib/store/postgres/connection/postgres.connection';
import { PostgresStore } from '../lib/store/postgres/postgres.store';
import { tableNames } from '../lib/store/postgres/schema/table-name';
import { startPostgres } from '../servers';

/*
 * Claim and completion through the Postgres store alone, single statements against batches, in interleaved rounds on
 * one real Postgres with fsync, so that noise hits all alike.
 *
 *   npm run bench:store
 */
const ROUNDS = 5;
const ROUND_MS = 1_000;
const IN_FLIGHT = [1, 8, 64, 256];
const VARIANTS: Record<string, BatchBounds> = {
  single: { ...BATCH_BOUNDS, items: 1, inFlight: 4 },
  'batched, 1 under way': { ...BATCH_BOUNDS, inFlight: 1 },
  'batched, 2 under way': { ...BATCH_BOUNDS, inFlight: 2 },
};
const OUTCOME: Outcome = {
  kind: 'response',
  status: 201,
  headers: [['Content-Type', 'application/json; charset=utf-8']],
  body: Buffer.from(JSON.stringify({ id: 1, filling: 'x'.repeat(400) })),
};

interface Measured {
  readonly perSecond: number;
  readonly p50: number;
  readonly cpu: number;
}

async function once(store: PostgresStore): Promise<void> {
  const result = await store.claim({
    id: recordId('bench', randomUUID()),
    fingerprint: 'f'.repeat(64),
    token: randomUUID(),
    lease: 30_000,
    takeOver: true,
    bypassCache: false,
    durability: 'durable',
  });
  if (!result.claimed) throw new Error('a fresh key was not claimed');
  await store.complete(result.claim, OUTCOME);
}

async function round(store: PostgresStore, inFlight: number): Promise<Measured> {
  const times: number[] = [];
  const cpu = process.cpuUsage();
  const startedAt = performance.now();
  const worker = async (): Promise<void> => {
    while (performance.now() - startedAt < ROUND_MS) {
      const before = performance.now();
      await once(store);
      times.push(performance.now() - before);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  const seconds = (performance.now() - startedAt) / 1_000;
  const { user, system } = process.cpuUsage(cpu);
  return { perSecond: times.length / seconds, p50: median(times), cpu: (user + system) / times.length };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

async function main(): Promise<void> {
  const server = await startPostgres();
  const url = await server.createDatabase();
  const dataSource = new DataSource({
    type: 'postgres',
    url,
    entities: [IdempotencyCache],
    migrations: [CreateIdempotencyCache1764000000015],
  });
  await dataSource.initialize();
  await dataSource.runMigrations();
  const [flush] = await dataSource.query<{ fsync: string }[]>('SHOW fsync');
  const connection = new PostgresConnection(applicationPool(dataSource), { timeout: 60_000, poolSize: 4 });
  const names = tableNames(dataSource.getRepository(IdempotencyCache).metadata);
  const stores = Object.entries(VARIANTS).map(
    ([name, batches]) =>
      [name, new PostgresStore(connection, names, { retention: 86_400_000, batches })] as const,
  );
  console.log(`Claim and completion, fsync ${flush?.fsync}; medians of ${ROUNDS} rounds\n`);
  console.log(
    '| in flight | variant | per second | to single | p50 ms | client CPU µs |\n|---|---|---|---|---|---|',
  );
  for (const inFlight of IN_FLIGHT) {
    const measured = new Map<string, Measured[]>(stores.map(([name]) => [name, []]));
    for (let n = -1; n < ROUNDS; n++) {
      for (const [name, store] of stores) {
        const result = await round(store, inFlight);
        if (n >= 0) measured.get(name)?.push(result); // the first warms up
      }
    }
    let single = NaN;
    for (const [name, results] of measured) {
      const of = (what: keyof Measured): number => median(results.map((result) => result[what]));
      if (name === 'single') single = of('perSecond');
      const ratio = (of('perSecond') / single).toFixed(2);
      console.log(
        `| ${inFlight} | ${name} | ${of('perSecond').toFixed(0)} | ${ratio} | ${of('p50').toFixed(2)} | ${of('cpu').toFixed(0)} |`,
      );
    }
  }
  await connection.close();
  await dataSource.destroy();
  await server.stop();
}

void main();
