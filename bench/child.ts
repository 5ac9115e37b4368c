import { fork, spawnSync, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { availableParallelism } from 'node:os';
import { childrenOf } from '../servers/process-tree';
import type { Question, State } from './host';
import type { Burst, Done, Job, Load, Task } from './load';
import type { Subject } from './subjects';

/** Subjects have one core to themselves; load, Postgres and Redis share another. */
const SUBJECT_CORE = '0';
const OTHER_CORE = '1';

/** Without it nothing is pinned, and the results say so. */
export const pins = availableParallelism() > 1 && spawnSync('taskset', ['-V']).status === 0;

const REGISTER = join(__dirname, '../test/support/register.js');

function start(
  file: string,
  core: string,
  env: NodeJS.ProcessEnv,
  args: readonly string[] = [],
): ChildProcess {
  const node = ['--no-warnings', '--expose-gc', '-r', REGISTER, ...args];
  return fork(join(__dirname, file), {
    ...(pins
      ? { execPath: 'taskset', execArgv: ['-c', core, process.execPath, ...node] }
      : { execArgv: node }),
    env: { ...process.env, ...env },
  });
}

/** Moves a server and its children off the subjects' core. */
export function pinServer(pid: number): void {
  if (!pins) return;
  for (const each of [pid, ...childrenOf(pid)])
    spawnSync('taskset', ['-a', '-c', '-p', OTHER_CORE, String(each)]);
}

/** The first message of a child that is one of these. */
function message<T>(
  child: ChildProcess,
  what: string,
  isIt: (message: T) => boolean = () => true,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      child.off('message', hear);
      child.off('exit', fail);
    };
    const hear = (heard: unknown): void => {
      if (!isIt(heard as T)) return;
      settle();
      resolve(heard as T);
    };
    const fail = (code: number | null): void => {
      settle();
      reject(new Error(`${what} has ended with ${String(code)}`));
    };
    child.on('message', hear).on('exit', fail);
  });
}

/** A subject that runs. */
export class RunningSubject {
  private constructor(
    readonly subject: Subject,
    private readonly child: ChildProcess,
    readonly url: string,
  ) {}

  static async start(subject: Subject, stores: NodeJS.ProcessEnv): Promise<RunningSubject> {
    const { mode, platform, lib, entry } = subject;
    const own = {
      MODE: mode,
      PLATFORM: platform,
      NODE_ENV: 'production',
      ...(lib ? { BENCH_LIB: lib } : {}),
    };
    const library = lib ? ['-r', join(__dirname, 'other-lib.js')] : [];
    const child = start(entry, SUBJECT_CORE, { ...stores, ...own }, library);
    const url = await message<string>(child, subject.name);
    return new RunningSubject(subject, child, `${url}/orders`);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  ask(question: Question): Promise<State> {
    const answer = message<State>(this.child, this.subject.name);
    this.child.send(question);
    return answer;
  }

  stop(): void {
    this.child.kill();
  }
}

/** The process that makes the load. */
export class Loader {
  private readonly child = start('load.ts', OTHER_CORE, {});

  private jobs = 0;

  run(job: Job & { kind: 'load' }): Promise<Load>;
  run(job: Job & { kind: 'burst' }): Promise<Burst>;
  async run(job: Job): Promise<Load | Burst> {
    const id = (this.jobs += 1);
    const answer = message<Done>(this.child, 'the load', (done) => done.id === id);
    this.child.send({ id, job } satisfies Task);
    const { result, error } = await answer;
    if (!result) throw new Error(error);
    return result;
  }

  stop(): void {
    this.child.kill();
  }
}
