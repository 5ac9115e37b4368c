import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Home, User } from './home';
import { childrenOf, isRunning, send } from './process-tree';

/** What it takes to run a server. */
export interface Launch {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** @default ours */
  readonly user?: User;
  readonly home: Home;
  /** Resolves if this very server answers, rejects while it does not. */
  readonly ready: () => Promise<void>;
  /** Ends the server in an orderly way. */
  readonly stopSignal: NodeJS.Signals;
}

const START_TIMEOUT = 30_000;
const STOP_TIMEOUT = 3_000;
const POLL = 20;
const LOG_LINES = 15;

/** These have to reach a server's children as well; what others mean to them is for the server to decide. */
const TREE_SIGNALS: readonly NodeJS.Signals[] = ['SIGKILL', 'SIGSTOP', 'SIGCONT'];

/** The child process of a server: started, signalled and ended as one with its own children. */
export class ServerProcess {
  private constructor(
    private readonly child: ChildProcess,
    private readonly stopSignal: NodeJS.Signals,
  ) {}

  /** @throws Error with the server's last output if it does not answer within 30 s */
  static async start(launch: Launch): Promise<ServerProcess> {
    const log = join(launch.home.path, 'log');
    const output = openSync(log, 'w');
    const child = spawn(launch.command, launch.args, {
      ...launch.user,
      cwd: launch.home.path,
      env: launch.env,
      stdio: ['ignore', output, output],
      detached: true, // a Ctrl-C in the terminal is for us; we then stop our servers in order
    });
    closeSync(output);
    child.unref();
    let failure: unknown;
    child.on('error', (error) => (failure = error));
    launch.home.watch(child);
    const server = new ServerProcess(child, launch.stopSignal);

    const deadline = Date.now() + START_TIMEOUT;
    while (child.pid && !server.exited && Date.now() < deadline) {
      try {
        await launch.ready();
        return server;
      } catch (error) {
        failure = error;
      }
      await delay(POLL);
    }
    if (!child.pid) await delay(0); // that is when the reason is told
    await server.destroy();
    const last = readFileSync(log, 'utf8').trimEnd().split('\n').slice(-LOG_LINES).join('\n');
    throw new Error(`${launch.command} did not start (${String(failure)}); its last output:\n${last}`);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  private get exited(): boolean {
    return !this.child.pid || this.child.exitCode !== null || this.child.signalCode !== null;
  }

  kill(signal: NodeJS.Signals): void {
    if (this.exited) return;
    if (TREE_SIGNALS.includes(signal)) {
      // While it is frozen it starts no child that we would miss, and no replacement for one that is killed.
      if (signal !== 'SIGCONT') send(this.pid, 'SIGSTOP');
      for (const child of childrenOf(this.pid)) send(child, signal);
    }
    send(this.pid, signal);
  }

  /** Ends the server in order; by force if that takes longer than 3 s. */
  async stop(): Promise<void> {
    this.kill('SIGCONT');
    this.kill(this.stopSignal);
    if (!(await this.exitsWithin(STOP_TIMEOUT))) await this.destroy();
  }

  /** Ends the server and its children at once. */
  async destroy(): Promise<void> {
    if (this.exited) return;
    const children = childrenOf(this.pid);
    this.kill('SIGKILL');
    await this.exitsWithin(STOP_TIMEOUT);
    const deadline = Date.now() + STOP_TIMEOUT;
    while (children.some(isRunning) && Date.now() < deadline) await delay(POLL);
  }

  private async exitsWithin(timeout: number): Promise<boolean> {
    if (this.exited) return true;
    const timer = new AbortController();
    const exit = new Promise<boolean>((resolve) => this.child.once('exit', () => resolve(true)));
    const timeUp = delay(timeout, false, { signal: timer.signal }).catch(() => false);
    const result = await Promise.race([exit, timeUp]);
    timer.abort();
    return result;
  }
}
