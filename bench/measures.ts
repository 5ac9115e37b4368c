import type { Redis } from 'ioredis';
import { readdirSync, readFileSync } from 'node:fs';
import type { Client } from 'pg';
import { childrenOf } from '../servers/process-tree';

/** What was used up so far: the difference of two readings is what happened between them. */
export interface Reading {
  /** Milliseconds of CPU. */
  readonly subjectCpu: number;
  readonly postgresCpu: number;
  readonly redisCpu: number;
  /** Transactions that wrote something, on all connections. */
  readonly commits: number;
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
    const ticks = (first: number): number =>
      (Number(fields[first]) + Number(fields[first + 1])) * MS_PER_TICK;
    // Its own, exactly where the kernel says so, and that of its children that have ended.
    return (scheduled(pid) ?? ticks(11)) + ticks(13);
  } catch {
    return NaN;
  }
}

/** Milliseconds that the threads of a process were on a core, which the scheduler counts in nanoseconds. */
function scheduled(pid: number): number | undefined {
  try {
    const threads = readdirSync(`/proc/${pid}/task`);
    return threads.reduce((sum, thread) => {
      const [nanoseconds] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ');
      return sum + Number(nanoseconds) / 1e6;
    }, 0);
  } catch {
    return undefined;
  }
}

export async function read(subjectPid: number, meters: Meters): Promise<Reading> {
  const { postgres, postgresPid, redis, redisPid } = meters;
  const [wal, stats, commands] = await Promise.all([
    postgres.query<{ bytes: string; commits: string }>(
      `SELECT pg_current_wal_lsn() - '0/0' AS bytes, pg_snapshot_xmax(pg_current_snapshot()) AS commits`,
    ),
    redis.info('stats'),
    redis.info('commandstats'),
  ]);
  return {
    subjectCpu: cpu(subjectPid),
    postgresCpu: [postgresPid, ...childrenOf(postgresPid)].reduce((sum, pid) => sum + cpu(pid), 0),
    redisCpu: cpu(redisPid),
    commits: Number(wal.rows[0]?.commits),
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
    commits: used('commits'),
    walBytes: used('walBytes'),
    redisCommands: used('redisCommands'),
    redisReads: used('redisReads'),
  };
}
