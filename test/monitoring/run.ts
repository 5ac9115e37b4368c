import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { findPromtool } from '../../servers';

/** Has promtool check the alert rules, and try them on series of samples. */
async function main(): Promise<void> {
  const { command, env } = await findPromtool();
  const run = (args: readonly string[]): boolean =>
    spawnSync(command, args, { env, stdio: 'inherit' }).status === 0;
  const passed = [
    run(['check', 'rules', join(__dirname, '../../monitoring/alerts.yml')]),
    run(['test', 'rules', join(__dirname, 'alerts.test.yml')]),
  ];
  process.exitCode = passed.every(Boolean) ? 0 : 1;
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
