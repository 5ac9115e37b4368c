import { mkdtempSync, mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { Client } from 'pg';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { pack } from '../package/pack';
import { migrate } from '../support/postgres-store';
import { Application } from './application';
import { CHECKS, checkIntercepted, INTERCEPTORS, type Check } from './checks';
import { interruption } from './command';
import { OLDEST_NODE, planOfRow, planOfSetup, Project, RefusedError } from './project';
import { installNode, newestEvenNode, RegistryUnreachableError } from './registry';
import { table, writePage, type Result } from './report';
import { mayBeRefused, ROWS, type Row } from './rows';
import { checkSetup, SETUPS, uninvited, type Setup } from './setups';

/*
 * Uses the packed package in fresh projects, one for each row of rows.ts and set-up of setups.ts, on real servers:
 *
 *   npm run test:compat               prints a table of the results
 *   npm run test:compat -- --write    puts it into docs/reference/compatibility.md as well, if every row is as it should be
 *   npm run test:compat -- 2 9        only these rows
 *   npm run test:compat -- pool-only  only these set-ups; "setups" for all of them
 */
const REPORTED = [
  ...['@nestjs/core', 'typeorm', '@nestjs/typeorm', 'ioredis', 'typescript', 'pg', 'prom-client'],
  ...['@nestjs-modules/ioredis', '@willsoto/nestjs-prometheus', '@nestjs/swagger'],
];

interface Bench {
  readonly folder: string;
  readonly tarball: string;
  readonly postgres: RunningPostgres;
  readonly redis: RunningRedis;
  readonly nodes: Readonly<Record<'this' | 'newest' | 'oldest', Runtime>>;
}

interface Runtime {
  readonly binary: string;
  readonly version: string;
}

async function main(args: readonly string[]): Promise<void> {
  const numbers = args.filter((arg) => /^\d+$/.test(arg)).map(Number);
  const names = SETUPS.map(({ name }) => name).filter((name) =>
    args.some((arg) => arg === name || arg === 'setups'),
  );
  const all = numbers.length + names.length === 0;
  if (!all && args.includes('--write')) throw new Error('--write takes all rows');
  const folder = mkdtempSync(join(tmpdir(), 'nestjs-idempotency-compat-'));
  const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  try {
    const bench: Bench = {
      folder,
      tarball: join(folder, pack(folder).filename),
      postgres,
      redis,
      nodes: {
        this: { binary: process.execPath, version: process.versions.node },
        newest: await runtime(folder, await newestEvenNode(folder)),
        oldest: await runtime(folder, OLDEST_NODE),
      },
    };
    const results: Result[] = [];
    for (const [index, row] of ROWS.entries()) {
      if (!all && !numbers.includes(index + 1)) continue;
      const result = await resultOf(bench, row, `row-${index + 1}`);
      interruption.signal.throwIfAborted();
      results.push(result);
      console.log(`row ${index + 1} of ${ROWS.length}: ${result.verdict}, ${result.seconds.toFixed(0)} s`);
      if (result.reason) console.log(result.reason.replaceAll(/^/gm, '    '));
    }
    console.log(`\n${table(results)}`);
    let failed = results.some(({ verdict }) => verdict === 'FAILS');
    for (const setup of SETUPS) {
      if (!all && !names.includes(setup.name)) continue;
      const reason = await failureOf(bench, setup);
      interruption.signal.throwIfAborted();
      failed ||= reason !== undefined;
      console.log(`${setup.name}: ${reason?.replaceAll(/^/gm, '    ').replace(/^/, 'FAILS\n') ?? 'works'}`);
    }
    if (failed) process.exitCode = 1;
    else if (args.includes('--write')) await writePage(results, await serversOf(bench, results));
  } finally {
    await Promise.all([postgres.stop(), redis.stop()]);
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function runtime(folder: string, version: string): Promise<Runtime> {
  const home = join(folder, `node-${version}`);
  mkdirSync(home);
  return { binary: await installNode(home, version), version };
}

async function resultOf(bench: Bench, row: Row, name: string): Promise<Result> {
  const startedAt = performance.now();
  const node = bench.nodes[row.versions === 'oldest' ? 'oldest' : row.node];
  const project = new Project(join(bench.folder, name), planOfRow(row), node.binary);
  let versions: Record<string, string> = {};
  const result = (verdict: Result['verdict'], reason?: string): Result => ({
    ...{ row, verdict, reason, versions },
    seconds: (performance.now() - startedAt) / 1000,
  });
  try {
    project.write(bench.tarball);
    await project.install();
    versions = versionsOf(project, row, node);
    await project.compile();
    await project.checkDeclarations();
    await project.checkCopies();
    await runChecks(bench, row, project, node);
    return result('works');
  } catch (error) {
    if (error instanceof RegistryUnreachableError) throw error;
    // Where npm's refusal is another package's range, the row is there to say so.
    if (error instanceof RefusedError && mayBeRefused(row)) return result('refused', error.message);
    return result('FAILS', error instanceof Error ? error.message : String(error));
  } finally {
    await rm(project.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Why a set-up fails; undefined if it works. */
async function failureOf(bench: Bench, setup: Setup): Promise<string | undefined> {
  const node = bench.nodes.this.binary;
  const project = new Project(join(bench.folder, setup.name), planOfSetup(setup), node);
  let application: Application | undefined;
  try {
    project.write(bench.tarball);
    await project.install();
    const found = uninvited(project.folder, setup);
    if (found.length > 0) return `npm has installed ${found.join(', ')} as well`;
    await project.compile();
    await project.checkDeclarations();
    await project.lint();
    const url = await bench.postgres.createDatabase();
    await migrate(url);
    const env = { DATABASE_URL: url, REDIS_URL: bench.redis.url };
    application = await Application.start(project.folder, node, env);
    await checkSetup(application, setup);
    return undefined;
  } catch (error) {
    if (error instanceof RegistryUnreachableError) throw error;
    return `${error instanceof Error ? error.message : String(error)}\n${application?.output ?? ''}`;
  } finally {
    await application?.destroy();
    await rm(project.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

function versionsOf(project: Project, { swagger }: Row, node: Runtime): Record<string, string> {
  const names = REPORTED.filter((name) => name !== '@nestjs/swagger' || swagger === 'with');
  return { ...Object.fromEntries(names.map((name) => [name, project.version(name)])), node: node.version };
}

async function runChecks(bench: Bench, row: Row, project: Project, node: Runtime): Promise<void> {
  await runOn(bench, row, project, node, CHECKS);
  for (const interceptor of INTERCEPTORS)
    await runOn(bench, row, project, node, { [interceptor]: checkIntercepted }, { INTERCEPTOR: interceptor });
}

/** Starts the application, for these checks. */
async function runOn(
  bench: Bench,
  row: Row,
  project: Project,
  node: Runtime,
  checks: Readonly<Record<string, Check>>,
  env: NodeJS.ProcessEnv = {},
): Promise<void> {
  const url = await bench.postgres.createDatabase();
  const application = await Application.start(project.folder, node.binary, {
    DATABASE_URL: url,
    REDIS_URL: bench.redis.url,
    ...env,
  });
  const redis = new Redis(bench.redis.url);
  const database = new Client({ connectionString: url });
  try {
    await database.connect();
    for (const [name, check] of Object.entries(checks)) {
      await check({ row, application, redis, database }).catch((cause: unknown) => {
        const reason = cause instanceof Error ? cause.message : String(cause);
        throw new Error(`${name}: ${reason}\n${application.output}`, { cause });
      });
    }
  } finally {
    await application.destroy();
    redis.disconnect();
    await database.end();
  }
}

/** In words, the versions that are the same in all rows but the oldest, and those of the servers. */
async function serversOf({ postgres, redis }: Bench, results: readonly Result[]): Promise<string> {
  const client = new Redis(redis.url);
  const database = new Client({ connectionString: postgres.url });
  await database.connect();
  const [info, { rows }] = await Promise.all([
    client.info('server'),
    database.query<{ server_version: string }>('SHOW server_version'),
  ]);
  client.disconnect();
  await database.end();
  const shared = results.find(({ row, verdict }) => row.versions === 'newest' && verdict === 'works');
  const clients = ['@nestjs-modules/ioredis', '@willsoto/nestjs-prometheus', 'prom-client', 'pg'].map(
    (name) => `${name} ${shared?.versions[name]}`,
  );
  return [
    `Postgres ${rows[0]?.server_version}`,
    `Redis ${/redis_version:(\S+)/.exec(info)?.[1]}`,
    ...clients,
  ].join(', ');
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interruption.abort());

main(process.argv.slice(2)).catch((error: unknown) => {
  if (interruption.signal.aborted) process.exitCode = 130;
  else {
    console.error(error instanceof RegistryUnreachableError ? error.message : error);
    process.exitCode = 1;
  }
});
