import { execFile } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { migrate } from '../support/postgres-store';

const run = promisify(execFile);
const SUPPORT = join(__dirname, '../support');
const PRELOAD = ['register.js', 'module-requests.js'].flatMap((file) => ['-r', join(SUPPORT, file)]);

interface Loaded {
  /** That the files of `lib` asked for. */
  readonly packages: readonly string[];
  readonly files: readonly string[];
  readonly answers?: readonly number[];
  readonly error?: string;
}

/** @returns what it says in its last line, and all that it says */
async function node(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<Loaded & { readonly output: string }> {
  const { stdout, stderr } = await run(process.execPath, ['--no-warnings', ...PRELOAD, ...args], {
    env: { ...process.env, ...env },
  });
  const last = stdout.trimEnd().split('\n').at(-1)!;
  return { ...(JSON.parse(last) as Loaded), output: stdout + stderr };
}

/** What every application has: peers that are required, and dependencies of our own. */
const ALWAYS = ['@nestjs/common', '@nestjs/core', 'cockatiel', 'ms', 'rxjs', 'structured-headers', 'zod'];
const PROMETHEUS = '@willsoto/nestjs-prometheus';
const OPENTELEMETRY = '@opentelemetry/api';

const manifest = JSON.parse(readFileSync(join(__dirname, '../../package.json'), 'utf8')) as {
  readonly peerDependenciesMeta: object;
};
const OPTIONAL = Object.keys(manifest.peerDependenciesMeta);

describe('an entry point', () => {
  it.each<[string, readonly string[], number]>([
    ['nestjs-idempotency', ALWAYS, 890],
    ['nestjs-idempotency/board', ALWAYS, 210],
    ['nestjs-idempotency/testing', ALWAYS, 950],
    ['nestjs-idempotency/typeorm', ['typeorm'], 15],
  ])('loads no package but what it needs, and stays small: %s', async (entry, packages, kilobytes) => {
    const code = `require('${entry}'); console.log(JSON.stringify(loadedByLib()))`;
    const loaded = await node(['-e', code], {
      MISSING: OPTIONAL.filter((name) => !packages.includes(name)).join(','),
    });
    expect(loaded.packages.filter((name) => !packages.includes(name))).toEqual([]);
    expect(loaded.files.length).toBeGreaterThan(1);
    const sizes = loaded.files.map((file) => statSync(join(__dirname, '../../lib', file)).size);
    expect(sizes.reduce((sum, each) => sum + each, 0)).toBeLessThan(kilobytes * 1024);
  });
});

describe('an application', () => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let databaseUrl: string;
  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
    await migrate(postgres.url);
  });
  afterAll(() => Promise.all([postgres.stop(), redis.stop()]));
  beforeEach(async () => {
    databaseUrl = await postgres.createDatabase();
    await migrate(databaseUrl);
  });

  const start = (setup: string, ...missing: string[]): ReturnType<typeof node> =>
    node([join(__dirname, '../fixtures/setups.ts')], {
      DATABASE_URL: databaseUrl,
      REDIS_URL: redis.url,
      SETUP: setup,
      MISSING: missing.join(','),
    });

  const [IOREDIS, TYPEORM] = ['@nestjs-modules/ioredis', '@nestjs/typeorm'];
  const REDIS_PACKAGES = [IOREDIS, 'ioredis'];
  const POSTGRES_PACKAGES = [TYPEORM, 'typeorm', 'pg'];
  const PROMETHEUS_PACKAGES = [PROMETHEUS, 'prom-client'];

  it.each<[string, readonly string[], readonly string[]]>([
    ['the memory', [], [...REDIS_PACKAGES, ...POSTGRES_PACKAGES]],
    ['a client', [], [IOREDIS, ...POSTGRES_PACKAGES]],
    ['a connection', [IOREDIS], POSTGRES_PACKAGES],
    ['a pool', [], [...REDIS_PACKAGES, TYPEORM, 'typeorm']],
    ['a DataSource', [TYPEORM], REDIS_PACKAGES],
    ['a client and a pool', [], [IOREDIS, TYPEORM, 'typeorm']],
    ['a connection and a DataSource', [IOREDIS, TYPEORM], []],
  ])('that reaches its stores over %s needs no other package', async (setup, packages, missing) => {
    const bare = await start(setup, ...missing, ...PROMETHEUS_PACKAGES, OPENTELEMETRY);
    expect(bare).toMatchObject({
      answers: [1, 1],
      packages: [...ALWAYS, ...packages, PROMETHEUS, OPENTELEMETRY].sort(),
    });
    expect(bare.output).toMatch(/There are no metrics, as @willsoto\/nestjs-prometheus or prom-client/);
  });

  it.each(PROMETHEUS_PACKAGES)('works without metrics where %s is missing', async (missing) => {
    const { answers, output } = await start('the memory', missing);
    expect(answers).toEqual([1, 1]);
    expect(output).toMatch(/There are no metrics/);
  });

  it.each<[string, string, RegExp]>([
    [
      TYPEORM,
      'nothing',
      /not installed \(Cannot find module '@nestjs\/typeorm'\)\. .*npm install @nestjs\/typeorm typeorm pg.*postgres: { pool }.*postgres: false/,
    ],
    [
      IOREDIS,
      'a DataSource and Redis',
      /not installed \(Cannot find module '@nestjs-modules\/ioredis'\)\. .*npm install @nestjs-modules\/ioredis ioredis.*redis: { client }.*redis: false/,
    ],
    [IOREDIS, 'nothing, without Postgres', /Cannot find module '@nestjs-modules\/ioredis'/],
  ])('that needs %s, which is missing, is told so at start: over %s', async (missing, setup, message) => {
    expect((await start(setup, missing)).error).toMatch(message);
  });
});
