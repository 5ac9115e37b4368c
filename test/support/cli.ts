import { transformFileSync } from '@swc/core';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export interface CliResult {
  readonly code: number | null;
  /** What ended the process, if it was a signal. */
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The answer, with `--json`. */
  // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- says what a test expects
  json<T = unknown>(): T;
}

export interface CliOptions {
  readonly env?: NodeJS.ProcessEnv;
  /** What is loaded before all else. */
  readonly preload?: readonly string[];
  /** Standard input; without it there is none. */
  readonly input?: string | Buffer;
  /** Whether output is read. Otherwise the command cannot write any. @default true */
  readonly read?: boolean;
  /** Told the process once it is there. */
  readonly onStart?: (child: ChildProcess) => void;
}

const ROOT = join(__dirname, '../..');

let built: string | undefined;

/** Builds the command as the package has it, once for all tests of this process, and returns its main file. */
function build(): string {
  if (built) return built;
  // Within node_modules, so that it finds the packages that it needs.
  const cache = join(ROOT, 'node_modules/.cache');
  mkdirSync(cache, { recursive: true });
  const place = mkdtempSync(join(cache, 'nestjs-idempotency-'));
  process.once('exit', () => rmSync(place, { recursive: true, force: true }));
  for (const name of ['package.json', 'migrations', 'monitoring'])
    symlinkSync(join(ROOT, name), join(place, name));
  for (const file of readdirSync(join(ROOT, 'lib'), { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.ts')) continue;
    const { code } = transformFileSync(join(ROOT, 'lib', file), {
      jsc: {
        target: 'es2022',
        parser: { syntax: 'typescript', decorators: true },
        transform: { legacyDecorator: true, decoratorMetadata: true },
        keepClassNames: true,
      },
      module: { type: 'commonjs', ignoreDynamic: true },
    });
    const target = join(place, 'dist', file.replace(/\.ts$/, '.js'));
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, code);
  }
  return (built = join(place, 'dist/cli/main.js'));
}

/** Runs the command as a process of its own, without a terminal. */
export function cli(
  args: readonly string[],
  { env = {}, preload = [], input = '', read = true, onStart }: CliOptions = {},
): Promise<CliResult> {
  const preloads = preload.flatMap((file) => ['-r', file]);
  const child = spawn(process.execPath, ['--no-warnings', ...preloads, build(), ...args], {
    env: { ...process.env, DATABASE_URL: undefined, REDIS_URL: undefined, ...env },
  });
  onStart?.(child);
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk) => (stdout += String(chunk)));
  child.stderr.on('data', (chunk) => (stderr += String(chunk)));
  if (!read) for (const output of [child.stdout, child.stderr]) output.destroy();
  child.stdin.end(input);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) =>
      resolve({
        code,
        signal,
        stdout,
        stderr,
        // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- as above
        json: <T>() => {
          try {
            return JSON.parse(stdout) as T;
          } catch {
            throw new Error(`No JSON (exit code ${code}): ${stdout}${stderr}`);
          }
        },
      }),
    );
  });
}
