/*
 * Installs the packed tarball in a fresh project, as a user would, and uses it there: as CommonJS, as an ES module,
 * and from TypeScript.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
require('../support/register.js');
const { pack } = require('./pack.ts');
const { startPostgres } = require('../../servers/index.ts');
const { publicTypes } = require('./public-types.ts');
const { allSnippets, problemsOf, snippetsIn } = require('../docs/snippets.ts');

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const project = mkdtempSync(join(tmpdir(), 'nestjs-idempotency-smoke-'));
const INSTALL = ['install', '--prefer-offline', '--ignore-scripts', '--no-audit', '--no-fund'];
const run = (command, args, cwd) =>
  execFileSync(command, args, { cwd, stdio: ['ignore', 'pipe', 'inherit'] }).toString();

try {
  const { filename, paths } = pack(project);
  for (const needed of [
    'dist/index.js',
    'dist/index.d.ts',
    'dist/board/index.js',
    'dist/board/index.d.ts',
    'dist/testing/index.js',
    'dist/testing/index.d.ts',
    'dist/cli/main.js',
    'dist/typeorm.js',
    'dist/typeorm.d.ts',
    'dist/index.js.map',
    'lib/index.ts',
    'migrations/015_idempotency_cache.sql',
    'README.md',
    'LICENSE',
  ]) {
    if (!paths.includes(needed)) throw new Error(`The package lacks ${needed}`);
  }
  for (const path of paths)
    if (/^(test|servers|sample-app|bench)\//.test(path))
      throw new Error(`The package should not hold ${path}`);
  run('npx', ['publint', '--strict', join(project, filename)], root);
  run('npx', ['attw', join(project, filename)], root);

  const { devDependencies, peerDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const peers = Object.fromEntries(
    Object.keys(peerDependencies).map((name) => [name, devDependencies[name]]),
  );
  writeFileSync(
    join(project, 'package.json'),
    JSON.stringify({
      private: true,
      dependencies: {
        ...peers,
        '@nestjs/platform-express': devDependencies['@nestjs/platform-express'],
        'nestjs-idempotency': `file:${filename}`,
      },
      devDependencies: {
        typescript: devDependencies.typescript,
        '@types/node': devDependencies['@types/node'],
        '@types/pg': devDependencies['@types/pg'],
      },
    }),
  );
  run('npm', INSTALL, project);

  const { constructible } = publicTypes(join(project, 'node_modules/nestjs-idempotency/dist/index.d.ts'));
  for (const name of constructible)
    if (!/(Error|Exception)$/.test(name)) throw new Error(`The constructor of ${name} is public`);

  const check = `if (!IdempotencyModule.forRoot().providers.length || typeof Idempotent() !== 'function') process.exit(1);`;
  writeFileSync(
    join(project, 'app.cjs'),
    `const { IdempotencyModule, Idempotent } = require('nestjs-idempotency');\n${check}`,
  );
  writeFileSync(
    join(project, 'app.mjs'),
    `import { IdempotencyModule, Idempotent } from 'nestjs-idempotency';\n${check}`,
  );
  writeFileSync(
    join(project, 'app.ts'),
    `import { IdempotencyModule, Idempotent, IdempotencyService, IdempotencyClaim, type IdempotencyContext } from 'nestjs-idempotency';
import { IdempotencyBoardModule } from 'nestjs-idempotency/board';
import { CreateIdempotencyCache1764000000015, IdempotencyCache } from 'nestjs-idempotency/typeorm';
import { Redis } from 'ioredis';
import { Pool } from 'pg';
import { DataSource, type MigrationInterface } from 'typeorm';
export const module = IdempotencyModule.forRoot({ lease: '30s', redis: { ttl: '1h' }, postgres: { retention: '7d' } });
export class Controller {
  @Idempotent({ required: true })
  create(@IdempotencyClaim() claim?: IdempotencyContext): number | undefined { return claim?.attempt; }
}
export const value = (service: IdempotencyService): Promise<number> => service.execute('key', () => 1);
export const rows = (service: IdempotencyService): Promise<unknown> =>
  service.execute('key', ({ manager }) => manager.query('SELECT 1'), { transaction: true });
export const wrong = (service: IdempotencyService): Promise<unknown> =>
  // @ts-expect-error the manager is TypeORM's
  service.execute('key', ({ manager }) => manager.absent(), { transaction: true });
export const clients = IdempotencyModule.forRoot({ redis: { client: new Redis() }, postgres: { pool: new Pool() } });
export const dataSource = new DataSource({ type: 'postgres', entities: [IdempotencyCache], migrations: [CreateIdempotencyCache1764000000015] });
export const migration: MigrationInterface = new CreateIdempotencyCache1764000000015();
export const board = IdempotencyBoardModule.forRoot({ access: () => 'read' });
// @ts-expect-error who may look has no default
IdempotencyBoardModule.forRoot({});
// @ts-expect-error options are checked
IdempotencyModule.forRoot({ lese: '30s' });
// @ts-expect-error a pool is no client
IdempotencyModule.forRoot({ redis: { client: new Pool() } });
// @ts-expect-error a client is no pool
IdempotencyModule.forRoot({ postgres: { pool: new Redis() } });
`,
  );
  writeFileSync(
    join(project, 'tsconfig.json'),
    JSON.stringify({
      compilerOptions: {
        module: 'nodenext',
        target: 'es2022',
        strict: true,
        noEmit: true,
        experimentalDecorators: true,
        emitDecoratorMetadata: true,
        skipLibCheck: true,
        types: ['node'],
      },
      files: ['app.ts'],
    }),
  );
  run('node', ['app.cjs'], project);
  run('node', ['app.mjs'], project);
  run('npx', ['tsc', '-p', '.'], project);
  // All snippets of the documentation, by the declarations that are packed.
  for (const [{ place }, problems] of problemsOf(allSnippets(), 'dist'))
    if (problems.length > 0) throw new Error(`The snippet ${place} does not compile: ${problems.join('; ')}`);
  // README's quick start as its reader pastes it: in a project of CommonJS, and in one of ES modules.
  for (const type of ['commonjs', 'module']) {
    const folder = join(project, type);
    mkdirSync(folder);
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ type }));
    for (const { code } of snippetsIn('README.md')) {
      const [, file] = /^\/\/ (\S+\.ts)\n/.exec(code) ?? [];
      if (file !== undefined) writeFileSync(join(folder, file), code);
    }
    writeFileSync(
      join(folder, 'tsconfig.json'),
      JSON.stringify({
        extends: '../tsconfig.json',
        compilerOptions: { isolatedModules: true },
        files: ['app.module.ts'],
      }),
    );
    run('npx', ['tsc', '-p', folder], project);
  }
  const postgres = await startPostgres();
  try {
    const command = (...args) =>
      execFileSync('npx', ['nestjs-idempotency', ...args], {
        cwd: project,
        env: { ...process.env, DATABASE_URL: postgres.url, REDIS_URL: '' },
      }).toString();
    command('migrate');
    let found = '';
    try {
      found = command('doctor', '--no-redis');
    } catch ({ stdout }) {
      found = String(stdout); // it ends with 1, as no application has used the table yet
    }
    if (!/^ok +table/m.test(found) || !/^error +namespace/m.test(found))
      throw new Error(`The doctor has not found what it should: ${found}`);
  } finally {
    await postgres.stop();
  }
  withoutOptionalPeers(join(project, filename));
  console.log(`The package works in a fresh project (${paths.length} files).`);
} finally {
  rmSync(project, { recursive: true, force: true });
}

/** A project that has only the required peers starts, is told what it lacks, and is type-checked with our declarations. */
function withoutOptionalPeers(tarball) {
  const { devDependencies, peerDependenciesMeta } = JSON.parse(
    readFileSync(join(root, 'package.json'), 'utf8'),
  );
  const bare = mkdtempSync(join(tmpdir(), 'nestjs-idempotency-bare-'));
  try {
    const required = [
      '@nestjs/common',
      '@nestjs/core',
      'reflect-metadata',
      'rxjs',
      'typescript',
      '@types/node',
    ];
    const dependencies = Object.fromEntries(required.map((name) => [name, devDependencies[name]]));
    writeFileSync(
      join(bare, 'package.json'),
      JSON.stringify({
        private: true,
        dependencies: { ...dependencies, 'nestjs-idempotency': `file:${tarball}` },
      }),
    );
    run('npm', INSTALL, bare);
    for (const name of Object.keys(peerDependenciesMeta))
      if (existsSync(join(bare, 'node_modules', name))) throw new Error(`npm has installed ${name} as well`);
    writeFileSync(
      join(bare, 'app.cjs'),
      `require('reflect-metadata');
const { Module } = require('@nestjs/common');
const { NestFactory } = require('@nestjs/core');
const { IdempotencyModule, IdempotencyService } = require('nestjs-idempotency');
require('nestjs-idempotency/board');
require('nestjs-idempotency/testing');
class App {}
Module({})(App);
const start = (options) => NestFactory.createApplicationContext(
  { module: App, imports: [IdempotencyModule.forRoot(options)] }, { logger: false, abortOnError: false });
async function main() {
  const app = await start({ store: 'memory' });
  const answers = [1, 2].map((each) => app.get(IdempotencyService).execute('key', () => each));
  if (String(await Promise.all(answers)) !== '1,1') throw new Error('it ran twice');
  for (const [options, needed] of [
    [{}, 'npm install @nestjs/typeorm typeorm pg'],
    [{ postgres: false }, 'npm install @nestjs-modules/ioredis ioredis'],
  ]) {
    const error = await start(options).then(() => undefined, String);
    if (!error?.includes(needed)) throw new Error('started with ' + JSON.stringify(options) + ': ' + error);
  }
}
main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
`,
    );
    writeFileSync(
      join(bare, 'app.ts'),
      `import { IdempotencyModule, type TransactionContext } from 'nestjs-idempotency';
export * as board from 'nestjs-idempotency/board';
export * as testing from 'nestjs-idempotency/testing';
export const module = IdempotencyModule.forRoot({ store: 'memory' });
export const keyOf = ({ key }: TransactionContext): string => key;
`,
    );
    const compilerOptions = {
      module: 'nodenext',
      target: 'es2022',
      strict: true,
      noEmit: true,
      types: ['node'],
    };
    writeFileSync(join(bare, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['app.ts'] }));
    run('node', ['app.cjs'], bare);
    const { stdout } = spawnSync('npx', ['tsc', '-p', '.'], { cwd: bare, encoding: 'utf8' });
    const faults = stdout
      .split('\n')
      .filter((line) => /^(app\.ts|node_modules\/nestjs-idempotency\/)/.test(line));
    if (faults.length > 0) throw new Error(faults.join('\n'));
  } finally {
    rmSync(bare, { recursive: true, force: true });
  }
}
