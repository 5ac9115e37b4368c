import { fork, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import type { IdempotencyModuleOptions } from '../../lib';
import { call, type Answer, type Call } from './http';

/** What an application that is forked for a test tells over IPC: where it listens, and whenever a handler runs. */
export type FromApp = { readonly url: string } | { readonly handling: string };

export interface ForkedApp {
  readonly child: ChildProcess;
  /** Its URL; rejects with its output if it ends before it listens. */
  readonly listening: Promise<string>;
  /** Resolves once a handler has told this name. */
  handling(name: string): Promise<void>;
  /** Resolves with the exit code, or the signal that ended the process. */
  readonly exited: Promise<number | string>;
  /** What it has written so far. */
  output(): string;
}

/** Runs a TypeScript file as an application process. @param preload what is loaded before all else */
export function forkApp(file: string, env: NodeJS.ProcessEnv, preload: readonly string[] = []): ForkedApp {
  const child = fork(file, {
    execArgv: [
      '--no-warnings',
      ...[...preload, join(__dirname, 'register.js')].flatMap((one) => ['-r', one]),
    ],
    env: { ...process.env, ...env },
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
  const listening = new Promise<string>((resolve, reject) => {
    child.on('message', (message: FromApp) => {
      if ('url' in message) {
        resolve(message.url);
      } else {
        seen.add(message.handling);
        waiting.get(message.handling)?.();
      }
    });
    void exited.then((code) => reject(new Error(`the application ended with ${code}:\n${output}`)));
  });
  return {
    child,
    listening,
    exited,
    output: () => output,
    handling: (name) =>
      seen.has(name) ? Promise.resolve() : new Promise((resolve) => waiting.set(name, resolve)),
  };
}

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
  const { child, listening, exited, handling } = forkApp(join(__dirname, '../fixtures/webhook-app.ts'), {
    DATABASE_URL: databaseUrl,
    REDIS_URL: redisUrl,
    OPTIONS: JSON.stringify(options),
  });
  const url = await listening;
  return {
    child,
    url,
    exited,
    handling,
    post: (path, key, body, more) =>
      call(url + path, { ...more, body, headers: { ...more?.headers, 'x-idempotency-key': key } }),
    stop: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}
