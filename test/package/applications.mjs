/*
 * Installs the packed tarball in fresh applications as the scaffolds of Nest make them, strict, and runs what their users
 * would: the type check, the scaffold's lint rules, and their tests, with Jest and with Vitest.
 *
 *   node test/package/applications.mjs             both
 *   node test/package/applications.mjs vitest      this one
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
require('../support/register.js');
const { pack } = require('./pack.ts');

const apps = join(dirname(fileURLToPath(import.meta.url)), 'apps');
const chosen = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), 'nestjs-idempotency-applications-'));

try {
  const tarball = join(folder, pack(folder).filename);
  for (const name of readdirSync(apps)) {
    if (chosen.length > 0 && !chosen.includes(name)) continue;
    const project = join(folder, name);
    cpSync(join(apps, name), project, { recursive: true });
    // The database and cache of a user are not there, and what is set here for ours is none of theirs.
    const { DATABASE_URL, REDIS_URL, ...env } = process.env;
    const npm = (...args) =>
      // A test run that passes and does not exit is none that a user can have.
      execFileSync('npm', args, {
        cwd: project,
        env,
        stdio: ['ignore', 'inherit', 'inherit'],
        timeout: 300_000,
      });
    npm(
      'install',
      '--ignore-scripts',
      '--no-audit',
      '--no-fund',
      '--prefer-offline',
      '--loglevel=error',
      tarball,
    );
    for (const script of ['typecheck', 'lint', 'test:e2e']) npm('run', '--silent', script);
    console.log(`A fresh application with ${name} is tested without servers.`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
