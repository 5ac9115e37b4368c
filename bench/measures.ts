import type { Redis } from 'ioredis';
import { readFileSync } from 'node:fs';
import type { Client } from 'pg';
import { childrenOf } from '../servers/process-tree';

/** What was used up so far: the difference of two readings is what happened between them. */
export interface Reading {
  /** Milliseconds of CPU. */
  readonly subjectCpu: number;
  readonly postgresCpu: number;
  readonly redisCpu: number;
  readonly walBytes: number;
  /** Commands, those inside of scripts as well. */
  readonly redisCommands: number;
  /** Batches of commands that Redis has read: one for each round trip, however many commands it carries. */
  readonly redisReads: number;
}

export interface Meters {
  readonly postgres: Client;
  readonly postgresPid: number;
  readonly redis: Redis;
  readonly redisPid: number;
}

/** Linux counts in ticks of 10 ms on every platform that Node runs on. */
const MS_PER_TICK = 10;

function cpu(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // utime, stime, and those of the children that have ended.
    return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) * MS_PER_TICK;
  } catch {
    return NaN;
  }
}

export async function read(subjectPid: number, meters: Meters): Promise<Reading> {
  const { postgres, postgresPid, redis, redisPid } = meters;
  const [wal, stats, commands] = await Promise.all([
    postgres.query<{ bytes: string }>(`SELECT pg_current_wal_lsn() - '0/0' AS bytes`),
    redis.info('stats'),
    redis.info('commandstats'),
  ]);
  return {
    subjectCpu: cpu(subjectPid),
    postgresCpu: [postgresPid, ...childrenOf(postgresPid)].reduce((sum, pid) => sum + cpu(pid), 0),
    redisCpu: cpu(redisPid),
    walBytes: Number(wal.rows[0]?.bytes),
    redisCommands: [...commands.matchAll(/calls=(\d+)/g)].reduce((sum, [, calls]) => sum + Number(calls), 0),
    redisReads: Number(/total_reads_processed:(\d+)/.exec(stats)?.[1]),
  };
}

export function difference(before: Reading, after: Reading): Reading {
  const used = (what: keyof Reading): number => after[what] - before[what];
  return {
    subjectCpu: used('subjectCpu'),
    postgresCpu: used('postgresCpu'),
    redisCpu: used('redisCpu'),
    walBytes: used('walBytes'),
    redisCommands: used('redisCommands'),
    redisReads: used('redisReads'),
  };
}
