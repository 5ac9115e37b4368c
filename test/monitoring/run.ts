import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findPromtool } from '../../servers';
import { queries } from './dashboard';

const MONITORING = join(__dirname, '../../monitoring');

/** Rules that record what the dashboard asks for, as promtool reads queries in rules alone. JSON is YAML. */
function dashboardRules(): string {
  const rules = queries.map(({ query }, i) => ({ record: `dashboard:query:${i}`, expr: query }));
  return JSON.stringify({ groups: [{ name: 'dashboard', rules }] });
}

/** Has promtool check the alert rules, try them on series of samples, and read the queries of the dashboard. */
async function main(): Promise<void> {
  const { command, env } = await findPromtool();
  const run = (...args: string[]): boolean =>
    spawnSync(command, args, { env, stdio: 'inherit' }).status === 0;
  const folder = mkdtempSync(join(tmpdir(), 'dashboard-'));
  try {
    const rules = join(folder, 'dashboard.json');
    writeFileSync(rules, dashboardRules());
    const passed = [
      run('check', 'config', '--syntax-only', join(MONITORING, 'prometheus.yml')),
      run('check', 'rules', join(MONITORING, 'alerts.yml')),
      run('test', 'rules', join(__dirname, 'alerts.test.yml')),
      run('check', 'rules', rules),
    ];
    process.exitCode = passed.every(Boolean) ? 0 : 1;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
