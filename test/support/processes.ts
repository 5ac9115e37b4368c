import { fork, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import type { IdempotencyModuleOptions } from '../../lib';
import { call, type Answer, type Call } from './http';

/** The webhook fixture as a process of its own. */
export interface AppProcess {
  readonly child: ChildProcess;
  readonly url: string;
  post(path: string, key: string, body: unknown, more?: Call): Promise<Answer>;
  /** Resolves once the handler of this lead runs. */
  handling(name: string): Promise<void>;
  /** Resolves with the exit code, or the signal that ended the process. */
  readonly exited: Promise<number | string>;
  stop(): Promise<void>;
}

export interface AppProcessOptions {
  readonly databaseUrl: string;
  readonly redisUrl?: string;
  readonly options?: IdempotencyModuleOptions;
}

export async function startProcess({
  databaseUrl,
  redisUrl = '',
  options = {},
}: AppProcessOptions): Promise<AppProcess> {
  const child = fork(join(__dirname, '../fixtures/webhook-app.ts'), {
    execArgv: ['--no-warnings', '-r', join(__dirname, 'register.js')],
    env: { ...process.env, DATABASE_URL: databaseUrl, REDIS_URL: redisUrl, OPTIONS: JSON.stringify(options) },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  let output = '';
  child.stdout?.on('data', (chunk) => (output += String(chunk)));
  child.stderr?.on('data', (chunk) => (output += String(chunk)));
  const exited = new Promise<number | string>((resolve) =>
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'unknown')),
  );
  const seen = new Set<string>();
  const waiting = new Map<string, () => void>();
  const url = await new Promise<string>((resolve, reject) => {
    child.on('message', (message: { url?: string; handling?: string }) => {
      if (message.url) resolve(message.url);
      if (!message.handling) return;
      seen.add(message.handling);
      waiting.get(message.handling)?.();
    });
    void exited.then((code) => reject(new Error(`the application ended with ${code}:\n${output}`)));
  });
  return {
    child,
    url,
    exited,
    post: (path, key, body, more) =>
      call(url + path, { ...more, body, headers: { 'x-idempotency-key': key } }),
    handling: (name) =>
      seen.has(name) ? Promise.resolve() : new Promise((resolve) => waiting.set(name, resolve)),
    stop: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}
