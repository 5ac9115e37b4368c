import { fork, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { startPostgres, startRedis } from '../servers';

/*
 * What protection costs, beside the same handler without it: each subject is a process of its own on real servers, and
 * the subjects take turns in rounds, so that noise hits all alike. Prints medians of the rounds, as ratios to the bare
 * handler in the same round and in milliseconds.
 *
 *   npm run bench               5 rounds of 2 s
 *   npm run bench -- 3 1        3 rounds of 1 s
 */
const [rounds = 5, seconds = 2] = process.argv.slice(2).map(Number);
const CONNECTIONS = [1, 32];
const SUBJECTS = ['bare', 'durable', 'fast', 'postgres only', 'redis only'] as const;

interface Figures {
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
}

type Workload = 'first requests' | 'replays';

async function start(
  subject: string,
  stores: NodeJS.ProcessEnv,
): Promise<{ child: ChildProcess; url: string }> {
  const child = fork(join(__dirname, 'app.ts'), {
    execArgv: ['--no-warnings', '-r', join(__dirname, '../test/support/register.js')],
    env: { ...process.env, ...stores, SUBJECT: subject },
  });
  const [url] = (await once(child, 'message')) as [string];
  return { child, url: url + (subject === 'bare' ? '/bare' : '/protected') };
}

async function load(url: string, workload: Workload, connections: number): Promise<Figures> {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const replayed = randomUUID();
  const body = JSON.stringify({ user_id: 'bench', name: 'x'.repeat(150) });
  if (workload === 'replays') await send(agent, url, replayed, body);
  const times: number[] = [];
  const startedAt = performance.now();
  const until = startedAt + seconds * 1000;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      while (performance.now() < until) {
        const before = performance.now();
        await send(agent, url, workload === 'replays' ? replayed : randomUUID(), body);
        times.push(performance.now() - before);
      }
    }),
  );
  const elapsed = (performance.now() - startedAt) / 1000;
  agent.destroy();
  times.sort((a, b) => a - b);
  return { perSecond: times.length / elapsed, p50: percentile(times, 0.5), p99: percentile(times, 0.99) };
}

function send(agent: Agent, url: string, key: string, body: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = {
      'content-type': 'application/json',
      'content-length': body.length,
      'idempotency-key': key,
    };
    const sent = request(url, { agent, method: 'POST', headers }, (response) => {
      if (response.statusCode !== 201) reject(new Error(`status ${response.statusCode}`));
      response.resume().once('end', resolve);
    });
    sent.once('error', reject).end(body);
  });
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

function median(values: readonly number[]): number {
  return percentile(
    [...values].sort((a, b) => a - b),
    0.5,
  );
}

async function main(): Promise<void> {
  const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  const stores = { DATABASE_URL: postgres.url, REDIS_URL: redis.url };
  const started = new Map<string, { child: ChildProcess; url: string }>();
  for (const subject of SUBJECTS) started.set(subject, await start(subject, stores));
  try {
    console.log(
      `Medians of ${rounds} rounds of ${seconds} s; ratios are to the bare handler in the same round.\n`,
    );
    console.log('| workload | connections | subject | requests/s | of bare | p50 ms | added ms | p99 ms |');
    console.log('| --- | --- | --- | --- | --- | --- | --- | --- |');
    for (const workload of ['first requests', 'replays'] as const) {
      for (const connections of CONNECTIONS) {
        const figures = new Map<string, Figures[]>(SUBJECTS.map((subject) => [subject, []]));
        for (let round = -1; round < rounds; round++) {
          for (const subject of SUBJECTS) {
            const measured = await load(started.get(subject)!.url, workload, connections);
            if (round >= 0) figures.get(subject)!.push(measured); // the first round warms up
          }
        }
        const bare = figures.get('bare')!;
        for (const [subject, own] of figures) {
          const ratio = median(own.map(({ perSecond }, round) => perSecond / bare[round]!.perSecond));
          const added = median(own.map(({ p50 }, round) => p50 - bare[round]!.p50));
          const row = [
            ...[workload, connections, subject, median(own.map(({ perSecond }) => perSecond)).toFixed(0)],
            ...[ratio.toFixed(2), median(own.map(({ p50 }) => p50)).toFixed(2), added.toFixed(2)],
            median(own.map(({ p99 }) => p99)).toFixed(2),
          ];
          console.log(`| ${row.join(' | ')} |`);
        }
      }
    }
  } finally {
    for (const { child } of started.values()) child.kill();
    await Promise.all([postgres.stop(), redis.stop()]);
  }
}

void main();
