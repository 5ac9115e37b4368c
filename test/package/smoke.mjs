/*
 * Installs the packed tarball in a fresh project, as a user would, and uses it there: as CommonJS, as an ES module,
 * and from TypeScript.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
require('../support/register.js');
const { pack } = require('./pack.ts');
const { startPostgres } = require('../../servers/index.ts');
const { publicTypes } = require('./public-types.ts');

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const project = mkdtempSync(join(tmpdir(), 'nestjs-idempotency-smoke-'));
const run = (command, args, cwd) =>
  execFileSync(command, args, { cwd, stdio: ['ignore', 'pipe', 'inherit'] }).toString();

try {
  const { filename, paths } = pack(project);
  for (const needed of [
    'dist/index.js',
    'dist/index.d.ts',
    'dist/testing/index.js',
    'dist/testing/index.d.ts',
    'dist/cli/main.js',
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
  run('npx', ['attw', join(project, filename), '--profile', 'node16'], root);

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
      },
    }),
  );
  run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund'], project);

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
export const module = IdempotencyModule.forRoot({ lease: '30s', redis: { ttl: '1h' }, postgres: { retention: '7d' } });
export class Controller {
  @Idempotent({ required: true })
  create(@IdempotencyClaim() claim?: IdempotencyContext): number | undefined { return claim?.attempt; }
}
export const value = (service: IdempotencyService): Promise<number> => service.execute('key', () => 1);
// @ts-expect-error options are checked
IdempotencyModule.forRoot({ lese: '30s' });
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
  console.log(`The package works in a fresh project (${paths.length} files).`);
} finally {
  rmSync(project, { recursive: true, force: true });
}
