import { ServerProcess, type Launch } from './process';
import { retrying } from './retry';

/** A server that runs as a child process of this one, and ends with it at the latest. */
export interface RunningServer {
  readonly url: string;
  readonly port: number;
  /** The server's own process id. It changes with `restart()`. */
  readonly pid: number;
  /** Ends the server, by force if it does not end within 3 s, and deletes its data. Safe to call again. */
  stop(): Promise<void>;
  /** Sends a signal. SIGKILL, SIGSTOP and SIGCONT reach the server's own children too. */
  kill(signal: NodeJS.Signals): void;
  /**
   * Ends the server at once, as a crash would, if it still runs, and starts it again on the same port and data
   * folder.
   * @throws Error with the server's last output if it does not come up; Error after `stop()`
   */
  restart(): Promise<void>;
}

/** The children of a Postgres that was killed from outside hold its memory until they have noticed and ended. */
const UNTIL_ORPHANS_ENDED = { on: /pre-existing shared memory block/, attempts: 50, pause: 100 };

/** What Postgres and Redis have in common. */
export class EmbeddedServer implements RunningServer {
  private restarting: Promise<void> | undefined;
  private stopping: Promise<void> | undefined;

  /** @param process runs already, by the same launch that a restart repeats */
  constructor(
    readonly url: string,
    readonly port: number,
    private readonly launch: Launch,
    private process: ServerProcess,
  ) {}

  get pid(): number {
    return this.process.pid;
  }

  kill(signal: NodeJS.Signals): void {
    this.process.kill(signal);
  }

  restart(): Promise<void> {
    this.restarting = this.endAndStart();
    return this.restarting;
  }

  stop(): Promise<void> {
    this.stopping ??= this.endAndDelete();
    return this.stopping;
  }

  private async endAndStart(): Promise<void> {
    if (this.stopping) throw new Error('The server was stopped and its data deleted: start another one.');
    await this.process.destroy();
    this.process = await retrying(UNTIL_ORPHANS_ENDED, () => ServerProcess.start(this.launch));
  }

  private async endAndDelete(): Promise<void> {
    await this.restarting?.catch(() => undefined); // its caller knows
    await this.process.stop();
    await this.launch.home.delete();
  }
}
