import { connect } from 'node:net';
import { Home } from './home';
import { onFreePort } from './ports';
import { ServerProcess, type Launch } from './process';
import { findRedisBinary, type RedisBinary } from './redis-binary';
import { EmbeddedServer, type RunningServer } from './running-server';

export interface RedisStartOptions {
  /** @default a free one */
  readonly port?: number;
  /** Arguments beside ours, such as `['--maxmemory', '2mb']`. */
  readonly args?: readonly string[];
}

export type RunningRedis = RunningServer;

const ANSWER_TIMEOUT = 1_000;

/**
 * Starts a real Redis without persistence: after a restart it is empty.
 * @throws RedisUnavailableError if this machine has none and cannot get one; Error with the server's last output if
 * it does not come up
 */
export async function startRedis({ port, args = [] }: RedisStartOptions = {}): Promise<RunningRedis> {
  const binary = await findRedisBinary();
  const home = Home.create('redis', 'TERM');
  try {
    return await onFreePort(port, async (chosen) => {
      const launch = launchOf(binary, home, chosen, args);
      return new EmbeddedServer(
        `redis://127.0.0.1:${chosen}`,
        chosen,
        launch,
        await ServerProcess.start(launch),
      );
    });
  } catch (error) {
    await home.delete();
    throw error;
  }
}

function launchOf({ command, env }: RedisBinary, home: Home, port: number, args: readonly string[]): Launch {
  return {
    command,
    args: [
      ...['--port', String(port), '--bind', '127.0.0.1', '--dir', home.path],
      ...['--save', '', '--appendonly', 'no', '--daemonize', 'no', '--loglevel', 'warning'],
      ...args,
    ],
    env,
    home,
    ready: () => answersFrom(home.path, port),
    stopSignal: 'SIGTERM',
  };
}

/** A PING would be answered as well by a stranger who has taken the port before our server could. */
async function answersFrom(folder: string, port: number): Promise<void> {
  const answer = await ask(port, 'CONFIG GET dir');
  if (!answer.includes(folder)) throw new Error(`Port ${port} answered ${answer.trimEnd()}`);
}

/** Sends one command and resolves with the start of the answer, as Redis writes it. */
export function ask(port: number, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', timeout: ANSWER_TIMEOUT });
    socket.once('connect', () => socket.write(`${command}\r\n`));
    socket.once('data', (data) => {
      resolve(data.toString());
      socket.destroy();
    });
    socket.once('timeout', () => socket.destroy(new Error('no answer')));
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('connection closed')));
  });
}
