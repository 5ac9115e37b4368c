import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { eventually } from './eventually';

const ROOT = join(__dirname, '../..');

/** The sample application as a process of its own. */
export interface Sample {
  readonly child: ChildProcess;
  output(): string;
  /** Its URL. @throws if it ends before it listens */
  listening(): Promise<string>;
  exits(): Promise<number | null>;
}

export function launchSample(env: NodeJS.ProcessEnv = {}): Sample {
  const child = spawn(
    process.execPath,
    ['--no-warnings', '-r', join(ROOT, 'test/support/register.js'), join(ROOT, 'sample-app/src/main.ts')],
    {
      env: { ...process.env, DATABASE_URL: '', REDIS_URL: '', PORT: '0', NO_COLOR: '1', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let output = '';
  child.stdout.on('data', (chunk) => (output += String(chunk)));
  child.stderr.on('data', (chunk) => (output += String(chunk)));
  return {
    child,
    output: () => output,
    listening: () =>
      eventually(() => {
        if (child.exitCode) throw new Error(`it ended:\n${output}`);
        return /curl (http:\/\/\S+)\/api\/leads/.exec(output)![1]!.replace('localhost', '127.0.0.1');
      }, 60_000),
    exits: () =>
      new Promise((resolve) =>
        child.exitCode === null && child.signalCode === null
          ? child.once('exit', resolve)
          : resolve(child.exitCode),
      ),
  };
}
