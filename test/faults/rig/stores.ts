import Redis from 'ioredis';
import { Client } from 'pg';
import { recordId } from '../../../lib/core/record';
import { decode } from '../../../lib/store/redis/codec';
import type { Stored } from './oracle';

/** Runs one statement on a connection of its own, as the server may have been restarted since the last one. */
export async function query<Row>(url: string, text: string, values: unknown[] = []): Promise<Row[]> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 5_000, query_timeout: 30_000 });
  client.on('error', () => undefined); // the rejected call says it
  try {
    await client.connect();
    return (await client.query(text, values)).rows as Row[];
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Runs commands on a connection of its own. */
export async function withRedis<T>(port: number, work: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(port, '127.0.0.1', { maxRetriesPerRequest: 3, commandTimeout: 10_000 });
  redis.on('error', () => undefined); // the rejected command says it
  try {
    return await work(redis);
  } finally {
    redis.disconnect();
  }
}

export async function recordsInPostgres(url: string): Promise<Stored[]> {
  const rows = await query<{ id: string; fence: string; body: string }>(
    url,
    `SELECT encode(id, 'hex') AS id, fence, convert_from(body, 'UTF8') AS body
     FROM idempotency_cache WHERE state = 'completed'`,
  );
  return rows.map(({ id, fence, body }) => ({ key: id, fence: Number(fence), nonce: nonceOf(body) }));
}

/** Redis' finished records; those that wait for Postgres do not count. */
export function recordsInRedis(port: number): Promise<Stored[]> {
  return withRedis(port, async (redis) => {
    const records: Stored[] = [];
    for (const name of await redis.keys('idempotency:*')) {
      const value = await redis.getBuffer(name);
      if (!value) continue;
      const hash = /[0-9a-f]{64}/.exec(name)?.[0] ?? '';
      const stored = decode({ ...recordId('', ''), hash }, value);
      if (stored.kind !== 'completed' || stored.pending) continue;
      const { outcome, fence } = stored;
      records.push({
        key: hash,
        fence,
        nonce: outcome.kind === 'response' ? nonceOf(String(outcome.body)) : undefined,
      });
    }
    return records;
  });
}

export function nonceOf(body: string): string | undefined {
  try {
    const { nonce } = JSON.parse(body) as { nonce?: string };
    return nonce;
  } catch {
    return undefined;
  }
}
