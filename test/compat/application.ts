import { fork, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { interruption } from './command';

const START_TIMEOUT = 60_000;

/** As much of an OpenAPI operation as is checked. */
export interface Operation {
  readonly parameters: readonly { readonly in: string; readonly name: string; readonly required?: boolean }[];
  readonly responses: Readonly<
    Record<string, { readonly headers?: Readonly<Record<string, unknown>>; readonly content?: object }>
  >;
}

/** What the application says of itself once it listens. */
interface Started {
  readonly url: string;
  readonly operation?: Operation;
}

/** The compiled application of a project, as a process of its own. */
export class Application {
  private constructor(
    private readonly child: ChildProcess,
    private readonly printed: readonly string[],
    /** Resolves with the exit code, or the signal that ended it. */
    readonly exited: Promise<number | string>,
    readonly url: string,
    /** What its OpenAPI document says of `POST /leads`. */
    readonly operation: Operation | undefined,
  ) {}

  /** @throws Error with the output, if it does not listen within a minute */
  static async start(folder: string, node: string, env: NodeJS.ProcessEnv): Promise<Application> {
    const child = fork(join(folder, 'dist/main.js'), {
      cwd: folder,
      execPath: node,
      execArgv: [],
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      signal: interruption.signal,
      killSignal: 'SIGKILL',
    });
    const printed: string[] = [];
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk) => printed.push(String(chunk)));
    const exited = new Promise<number | string>((resolve) => {
      child.once('close', (code, signal) => resolve(code ?? signal ?? 'unknown'));
      child.once('error', (error) => resolve(String(error)));
    });
    const listening = new Promise<Started>((resolve) =>
      child.once('message', (message) => resolve(message as Started)),
    );
    const started = await Promise.race([
      listening,
      exited.then((code) => `ended with ${code}`),
      delay(START_TIMEOUT, 'does not listen', { ref: false }),
    ]);
    if (typeof started === 'string') {
      child.kill('SIGKILL');
      throw new Error(`the application ${started}:\n${printed.join('')}`);
    }
    return new Application(child, printed, exited, started.url, started.operation);
  }

  /** All that it has printed. */
  get output(): string {
    return this.printed.join('');
  }

  terminate(): void {
    this.child.kill('SIGTERM');
  }

  async destroy(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exited;
  }
}
