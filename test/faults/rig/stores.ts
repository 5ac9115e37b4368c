import Redis from 'ioredis';
import { recordId } from '../../../lib/core/record';
import { decode } from '../../../lib/store/redis/codec';
import { sql } from '../../support/database';
import { IS_RECORD, REDIS_RECORDS } from '../../support/stored';
import type { Stored } from './oracle';

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
  const rows = await sql<{ id: string; fence: string; body: string }>(
    url,
    `SELECT encode(id, 'hex') AS id, fence, convert_from(body, 'UTF8') AS body
     FROM idempotency_cache WHERE state = 'completed' AND ${IS_RECORD}`,
  );
  return rows.map(({ id, fence, body }) => ({ key: id, fence: Number(fence), nonce: nonceOf(body) }));
}

/** Redis' finished records; those that wait for Postgres do not count. */
export function recordsInRedis(port: number): Promise<Stored[]> {
  return withRedis(port, async (redis) => {
    const records: Stored[] = [];
    for (const name of await redis.keys(REDIS_RECORDS)) {
      const value = await redis.getBuffer(name);
      if (!value) continue;
      const hash = /[0-9a-f]{64}$/.exec(name)?.[0] ?? '';
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
