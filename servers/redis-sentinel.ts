import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Home } from './home';
import { onFreePort } from './ports';
import { ServerProcess } from './process';
import { ask, startRedis, type RunningRedis } from './redis';
import { findRedisBinary } from './redis-binary';
import { retrying } from './retry';
import { EmbeddedServer } from './running-server';

/** A primary, its replica, and three Sentinels that watch both and agree on a failover. */
export interface RunningSentinels {
  /** The name by which Sentinels know the primary. */
  readonly name: string;
  readonly sentinels: readonly RunningRedis[];
  /** The primary as it was started. */
  readonly primary: RunningRedis;
  /** Becomes the primary when that is gone for a second. */
  readonly replica: RunningRedis;
  /** The port of the primary that a majority of the Sentinels names now. */
  primaryPort(): Promise<number>;
  stop(): Promise<void>;
}

const NAME = 'main';
const SENTINELS = 3;
const QUORUM = 2;
const UNTIL_READY = { on: /not ready/, attempts: 600, pause: 50 };

/**
 * Starts all five, as processes of their own, and waits until every Sentinel knows the replica and the others.
 * @throws RedisUnavailableError; Error if they do not find each other within 30 s
 */
export async function startRedisSentinels(): Promise<RunningSentinels> {
  const primary = await startRedis();
  const started: RunningRedis[] = [primary];
  const stop = async (): Promise<void> => {
    await Promise.all(started.map((server) => server.stop()));
  };
  try {
    const replica = await startRedis({ args: ['--replicaof', `127.0.0.1 ${primary.port}`] });
    started.push(replica);
    const sentinels: RunningRedis[] = [];
    while (sentinels.length < SENTINELS) sentinels.push(await startSentinel(primary.port));
    started.push(...sentinels);
    for (const { port } of sentinels) await retrying(UNTIL_READY, () => expectReady(port));
    const primaryPort = async (): Promise<number> => {
      const answers = await Promise.all(sentinels.map(({ port }) => primaryBy(port)));
      const named = answers.find((one) => answers.filter((other) => other === one).length >= QUORUM);
      if (named === undefined) throw new Error(`The Sentinels do not agree: ${answers.join(', ')}`);
      return named;
    };
    return { name: NAME, sentinels, primary, replica, primaryPort, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function startSentinel(primaryPort: number): Promise<RunningRedis> {
  const { command, env } = await findRedisBinary();
  const home = Home.create('sentinel', 'TERM');
  try {
    return await onFreePort(undefined, async (port) => {
      const id = randomBytes(20).toString('hex');
      const config = join(home.path, 'sentinel.conf'); // which it rewrites, so that a restart knows what it knew
      writeFileSync(config, configuration(port, primaryPort, id));
      const launch = {
        command,
        args: [config, '--sentinel'],
        env,
        home,
        ready: async () => {
          const answer = await ask(port, 'SENTINEL MYID');
          if (!answer.includes(id)) throw new Error(`Port ${port} answered ${answer.trimEnd()}`);
        },
        stopSignal: 'SIGTERM' as const,
      };
      return new EmbeddedServer(`redis://127.0.0.1:${port}`, port, launch, await ServerProcess.start(launch));
    });
  } catch (error) {
    await home.delete();
    throw error;
  }
}

function configuration(port: number, primaryPort: number, id: string): string {
  return `port ${port}
bind 127.0.0.1
dir ./
sentinel myid ${id}
sentinel monitor ${NAME} 127.0.0.1 ${primaryPort} ${QUORUM}
sentinel down-after-milliseconds ${NAME} 1000
sentinel failover-timeout ${NAME} 6000
`;
}

async function expectReady(port: number): Promise<void> {
  const answer = await ask(port, 'INFO sentinel');
  if (!answer.includes(`slaves=1,sentinels=${SENTINELS}`)) throw new Error('The Sentinels are not ready');
}

/** The address comes as two strings, of which the second is the port. */
async function primaryBy(port: number): Promise<number> {
  const answer = await ask(port, `SENTINEL GET-MASTER-ADDR-BY-NAME ${NAME}`);
  return Number(answer.trimEnd().split('\r\n').at(-1));
}
