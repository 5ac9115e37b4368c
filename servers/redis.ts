import { connect } from 'node:net';
import { join } from 'node:path';
import { deleteFolder, onFreePort, ServerProcess, temporaryFolder, type RunningServer } from './process';
import { findRedisBinary, type RedisBinary } from './redis-binary';

export interface RedisStartOptions {
  /** @default a free one */
  readonly port?: number;
  /** Arguments beside ours, such as `['--maxmemory', '2mb']`. */
  readonly args?: readonly string[];
}

export type RunningRedis = RunningServer;

/**
 * Starts a real Redis without persistence: after a restart it is empty.
 * @throws RedisUnavailableError if this machine has none and cannot get one; Error if it does not come up
 */
export async function startRedis({ port, args = [] }: RedisStartOptions = {}): Promise<RunningRedis> {
  const binary = await findRedisBinary();
  const folder = temporaryFolder('redis');
  try {
    return await onFreePort(port, (chosen) => EmbeddedRedis.start(binary, folder, chosen, args));
  } catch (error) {
    deleteFolder(folder);
    throw error;
  }
}

class EmbeddedRedis implements RunningRedis {
  private constructor(
    private server: ServerProcess,
    private readonly launch: () => Promise<ServerProcess>,
    private readonly folder: string,
    readonly port: number,
  ) {}

  static async start(
    { command, env }: RedisBinary,
    folder: string,
    port: number,
    args: readonly string[],
  ): Promise<EmbeddedRedis> {
    const launch = (): Promise<ServerProcess> =>
      ServerProcess.start({
        command,
        args: [
          ...['--port', String(port), '--bind', '127.0.0.1', '--dir', folder],
          ...['--save', '', '--appendonly', 'no', '--daemonize', 'no', '--loglevel', 'warning'],
          ...args,
        ],
        env,
        log: join(folder, 'log'),
        ready: () => ping(port),
        stopSignal: 'SIGTERM',
      });
    return new EmbeddedRedis(await launch(), launch, folder, port);
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  get pid(): number {
    return this.server.pid;
  }

  kill(signal: NodeJS.Signals): void {
    this.server.kill(signal);
  }

  async restart(): Promise<void> {
    await this.server.destroy();
    this.server = await this.launch();
  }

  async stop(): Promise<void> {
    await this.server.stop();
    deleteFolder(this.folder);
  }
}

function ping(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', timeout: 1_000 }, () => socket.write('PING\r\n'));
    socket.once('data', (data) =>
      data.toString().startsWith('+PONG') ? resolve() : reject(new Error(data.toString())),
    );
    socket.once('data', () => socket.destroy());
    socket.once('timeout', () => socket.destroy(new Error('Redis did not answer')));
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('Redis closed the connection')));
  });
}
