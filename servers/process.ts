import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** A server that runs as a child process of this one. */
export interface RunningServer {
  readonly url: string;
  readonly port: number;
  /** The server's own process id. It changes with `restart()`. */
  readonly pid: number;
  /** Ends the server, by force if it does not end within 3 s, and deletes its data. Safe to call again. */
  stop(): Promise<void>;
  /** Sends a signal to the server and its children: SIGKILL, SIGSTOP, SIGCONT. */
  kill(signal: NodeJS.Signals): void;
  /** Ends the server at once, if it still runs, and starts it again on the same port and data folder. */
  restart(): Promise<void>;
}

export interface User {
  readonly uid: number;
  readonly gid: number;
}

export interface Launch {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  readonly user?: User;
  /** Its standard output and error go here. */
  readonly log: string;
  /** Resolves once the server answers, rejects while it does not. */
  readonly ready: () => Promise<void>;
  /** Ends the server in an orderly way. */
  readonly stopSignal: NodeJS.Signals;
}

const START_TIMEOUT = 30_000;
const STOP_TIMEOUT = 3_000;

const running = new Set<ServerProcess>();
process.on('exit', () => {
  for (const server of running) server.kill('SIGKILL');
});

/** The child process of a server: started, signalled and ended as one with its own children. */
export class ServerProcess {
  private constructor(
    private readonly child: ChildProcess,
    private readonly launch: Launch,
  ) {}

  /** @throws Error with the server's last output if it does not come up */
  static async start(launch: Launch): Promise<ServerProcess> {
    const log = openSync(launch.log, 'a');
    const [command, args] = dyingWithUs(launch);
    const child = spawn(command, args, {
      env: launch.env ?? process.env,
      stdio: ['ignore', log, log],
      detached: true, // a Ctrl-C in the terminal is for the parent, which then stops its servers in order
    });
    closeSync(log);
    child.unref();
    let spawnError: Error | undefined;
    child.once('error', (error) => (spawnError = error));
    const server = new ServerProcess(child, launch);
    running.add(server);
    child.once('exit', () => running.delete(server));

    const deadline = Date.now() + START_TIMEOUT;
    for (;;) {
      if (spawnError ?? server.exited) break;
      if (
        await launch.ready().then(
          () => !server.exited,
          () => false,
        )
      )
        return server;
      if (Date.now() > deadline) break;
      await delay(20);
    }
    server.kill('SIGKILL');
    const output = readFileSync(launch.log, 'utf8').split('\n').slice(-15).join('\n');
    throw new Error(`${launch.command} did not start: ${spawnError?.message ?? ''}\n${output}`);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get exited(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  kill(signal: NodeJS.Signals): void {
    if (this.exited || !this.child.pid) return;
    // The parent first, so that it starts no replacement for a child that is killed.
    for (const pid of [this.child.pid, ...childrenOf(this.child.pid)]) {
      try {
        process.kill(pid, signal);
      } catch {
        // it has ended meanwhile
      }
    }
  }

  async stop(): Promise<void> {
    this.kill('SIGCONT');
    if (!this.exited && this.child.pid) process.kill(this.child.pid, this.launch.stopSignal);
    if (!(await this.exitsWithin(STOP_TIMEOUT))) await this.destroy();
  }

  async destroy(): Promise<void> {
    this.kill('SIGKILL');
    await this.exitsWithin(STOP_TIMEOUT);
  }

  private async exitsWithin(timeout: number): Promise<boolean> {
    if (this.exited) return true;
    const timer = new AbortController();
    const exit = new Promise<boolean>((resolve) => this.child.once('exit', () => resolve(true)));
    const result = await Promise.race([exit, delay(timeout, false, { signal: timer.signal })]);
    timer.abort();
    return result;
  }
}

/** A folder of our own under the system's temporary one. */
export function temporaryFolder(name: string): string {
  return mkdtempSync(join(tmpdir(), `nestjs-idempotency-${name}-`));
}

export function deleteFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
}

/** A port that is free now; another process may still take it before the server does. */
export async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve, reject) => probe.once('error', reject).listen(0, '127.0.0.1', resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** Starts on a free port, and on another one if somebody else takes it in between. */
export async function onFreePort<T>(
  fixed: number | undefined,
  start: (port: number) => Promise<T>,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await start(fixed ?? (await freePort()));
    } catch (error) {
      if (fixed || tries === 5 || !/address already in use/i.test(String(error))) throw error;
    }
  }
}

/** On Linux the kernel ends the server when we die, however that happens; elsewhere only an orderly exit does. */
function dyingWithUs({ command, args, user }: Launch): [string, string[]] {
  if (!hasSetpriv()) return [command, [...args]];
  const as = user ? [`--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups'] : [];
  return ['setpriv', [...as, '--pdeathsig', 'KILL', '--', command, ...args]];
}

let setprivFound: boolean | undefined;

function hasSetpriv(): boolean {
  if (setprivFound === undefined) {
    try {
      execFileSync('setpriv', ['--pdeathsig', 'KILL', '--', 'true'], { stdio: 'ignore' });
      setprivFound = true;
    } catch {
      setprivFound = false;
    }
  }
  return setprivFound;
}

function childrenOf(pid: number): number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return children.split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}
