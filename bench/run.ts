import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Redis } from 'ioredis';
import { Client } from 'pg';
import { startPostgres, startRedis } from '../servers';
import { Loader, pins, pinServer, RunningSubject } from './child';
import { libOf } from './commit';
import { Measurement, STORM_WAIT } from './measure';
import { comparison, planOf, type Effect, type Plan } from './plan';
import { markdown } from './report';
import type { InFlight, Results } from './results';
import { CREATE_PLACED_ORDER } from './rows';
import { beforeAndAfter, type Platform, type Subject } from './subjects';
import { write } from './write';

/*
 * What protection costs, beside the same handler without it, and beside the same of others (docs/internals/performance.md).
 *
 *   npm run bench                              the default set, in about 20 minutes
 *   npm run bench -- --quick | --full          a smoke test; everything
 *   npm run bench -- --write                   puts figures and charts into the documentation
 *   npm run bench -- --against <commit>        `lib` as it is beside `lib` as it was, in pairs
 *     [--modes durable,fast] [--platforms express,fastify] [--effects none,row]
 *   npm run bench -- --from <file> [--write]   a run's results (.cache/bench.json) once more, without measuring
 *   npm run bench -- --rounds 9                more or fewer rounds, of any of these
 */
const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    full: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
    against: { type: 'string' },
    modes: { type: 'string', default: 'durable,redis only' },
    platforms: { type: 'string', default: 'express' },
    effects: { type: 'string', default: 'none' },
    from: { type: 'string' },
    rounds: { type: 'string' },
  },
});

/** All subjects' pools are open at once, though one of them at a time is asked. */
const MOST_CONNECTIONS = '500';
const RIVALS = join(__dirname, 'rivals');

function installRivals(): void {
  if (existsSync(join(RIVALS, 'node_modules'))) return;
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund'];
  const { status } = spawnSync('npm', args, {
    cwd: RIVALS,
    stdio: 'inherit',
    shell: process.platform === 'win32',
  });
  if (status !== 0)
    throw new Error('The rivals could not be installed: `npm ci --prefix bench/rivals` says why.');
}

function chosenPlan(): Plan {
  const rounds = options.rounds === undefined ? undefined : Number(options.rounds);
  if (options.against !== undefined)
    return comparison(
      beforeAndAfter(
        libOf(options.against),
        options.modes.split(','),
        options.platforms.split(',') as Platform[],
      ),
      options.effects.split(',') as Effect[],
      rounds ?? 8,
    );
  const plan = planOf(options.quick ? 'quick' : options.full ? 'full' : 'default');
  return { ...plan, rounds: rounds ?? plan.rounds };
}

function subjectsOf({ cells, storms, inFlight }: Plan): readonly Subject[] {
  return [...new Set([...cells.flatMap(({ subjects }) => subjects), ...storms, ...inFlight])];
}

async function main(): Promise<void> {
  const results =
    options.from === undefined ? await run() : (JSON.parse(readFileSync(options.from, 'utf8')) as Results);
  console.log(markdown(results));
  if (options.write) await write(results);
}

async function run(): Promise<Results> {
  const startedAt = performance.now();
  installRivals();
  const plan = chosenPlan();
  const [postgres, redis, goneRedis] = await Promise.all([
    startPostgres({ settings: { max_connections: MOST_CONNECTIONS } }),
    startRedis(),
    startRedis(),
  ]);
  const meters = {
    postgres: new Client({ connectionString: postgres.url }),
    postgresPid: postgres.pid,
    redis: new Redis(redis.url),
    redisPid: redis.pid,
  };
  const loader = new Loader();
  const running = new Map<string, RunningSubject>();
  try {
    for (const { pid } of [postgres, redis]) pinServer(pid);
    await meters.postgres.connect();
    await meters.postgres.query(CREATE_PLACED_ORDER);
    const machine = await machineOf(meters.postgres, meters.redis);
    for (const subject of subjectsOf(plan)) {
      const stores = {
        DATABASE_URL: postgres.url,
        REDIS_URL: subject.redisDown ? goneRedis.url : redis.url,
      };
      running.set(subject.name, await RunningSubject.start(subject, stores));
    }
    await goneRedis.stop();
    const results = await measured(plan, new Measurement(plan, running, loader, meters), machine);
    save(results);
    console.error(`measured in ${((performance.now() - startedAt) / 60_000).toFixed(1)} minutes`);
    return results;
  } finally {
    loader.stop();
    for (const subject of running.values()) subject.stop();
    meters.redis.disconnect();
    await meters.postgres.end();
    await Promise.all([postgres.stop(), redis.stop(), goneRedis.stop()]);
  }
}

async function measured(plan: Plan, measurement: Measurement, machine: string): Promise<Results> {
  console.error('warming up');
  await measurement.warmUp();
  const cells = [];
  for (const cell of plan.cells) {
    console.error(
      `${cell.workload}, ${cell.connections} connections, ${cell.bytes} bytes, effect: ${cell.effect}`,
    );
    cells.push(await measurement.cell(cell));
  }
  const storms = [];
  for (const wait of plan.storms.length > 0 ? [0, STORM_WAIT] : []) {
    console.error(`storms on a handler of ${wait} ms`);
    storms.push(await measurement.storm(wait));
  }
  const inFlight: Record<string, InFlight> = {};
  for (const subject of plan.inFlight) {
    console.error(`in flight, ${subject.name}`);
    try {
      inFlight[subject.name] = await measurement.inFlight(subject);
    } catch (error) {
      console.error(error); // all other figures stand without it
    }
  }
  const bareOf = Object.fromEntries(subjectsOf(plan).map(({ name, bare }) => [name, bare]));
  const { rounds, seconds } = plan;
  const today = new Date().toISOString().slice(0, 10);
  return { measured: today, machine, pinned: pins, rounds, seconds, bareOf, cells, storms, inFlight };
}

async function machineOf(postgres: Client, redis: Redis): Promise<string> {
  const { rows } = await postgres.query<{ server_version: string }>('SHOW server_version');
  const version = /redis_version:(\S+)/.exec(await redis.info('server'))?.[1] ?? '';
  return [
    `${cpus().length} cores, ${process.platform} ${process.arch}`,
    `Node ${process.versions.node}`,
    `Postgres ${rows[0]?.server_version ?? ''}`,
    `Redis ${version}`,
  ].join(', ');
}

function save(results: Results): void {
  const folder = join(__dirname, '../.cache');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'bench.json'), JSON.stringify(results));
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
