import { randomUUID } from 'node:crypto';
import { fork, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import type { Platform } from '../app';
import { eventually } from '../eventually';
import { Wire } from '../wire';
import type { Question, Told } from './application';
import type { Kind, Made } from './recorder';
import { RedisTap } from './redis-tap';

export const REQUEST_KINDS = [
  'bare',
  'first request',
  'replay',
  'first request in a transaction',
  'replay in a transaction',
] as const;
export type RequestKind = (typeof REQUEST_KINDS)[number];

const isFirst = (kind: RequestKind): boolean => kind.startsWith('first');
const isInTransaction = (kind: RequestKind): boolean => kind.endsWith('transaction');

/** What one request made, all that follows its response included. */
export interface Trace {
  readonly made: readonly Made[];
  /** Names of the commands that Redis got. */
  readonly commands: readonly string[];
}

export interface Counts {
  readonly promises: number;
  readonly timers: number;
  readonly statements: number;
  readonly commands: number;
}

export interface Stores {
  readonly databaseUrl: string;
  readonly redisUrl: string;
}

export interface MeasuredAppOptions {
  /** Whether it says where each thing is made. */
  readonly stacks?: boolean;
  /** Whether OpenTelemetry traces its requests. */
  readonly traced?: boolean;
}

/** Requests after which every plan is prepared and every connection open. */
const WARM = 40;

/** Requests that a count is of. */
const COUNTED = 9;

/** The application in a process of its own, asked one request at a time over one connection. */
export class MeasuredApp {
  private readonly recorded = randomUUID();

  private constructor(
    private readonly url: string,
    private readonly child: ChildProcess,
    private readonly wire: Wire,
    private readonly redis: RedisTap,
  ) {}

  static async start(
    platform: Platform,
    { databaseUrl, redisUrl }: Stores,
    { stacks = false, traced = false }: MeasuredAppOptions = {},
  ): Promise<MeasuredApp> {
    const child = fork(join(__dirname, 'application.ts'), {
      execArgv: [
        ...['--no-warnings', '-r', join(__dirname, '../register.js')],
        ...(stacks ? ['--enable-source-maps'] : []),
      ],
      env: {
        ...process.env,
        NODE_ENV: 'production',
        PLATFORM: platform,
        DATABASE_URL: databaseUrl,
        REDIS_URL: redisUrl,
        STACKS: String(stacks),
        TRACED: String(traced),
      },
    });
    const { url } = (await told(child)) as { url: string };
    const app = new MeasuredApp(url, child, await Wire.open(url), await RedisTap.open(redisUrl));
    await app.warmUp();
    return app;
  }

  /** @param extra promises and timers that the handler of the bare route makes */
  async trace(kind: RequestKind, extra = 0): Promise<Trace> {
    await this.redis.commands();
    const copies = await this.redis.keys();
    await this.ask('begin');
    await this.send(kind, extra);
    // The copy is written after the response.
    if (isFirst(kind))
      await eventually(async () => {
        if ((await this.redis.keys()) === copies) throw new Error('Redis has got no copy of the outcome');
      });
    const made = (await this.ask('end')) as readonly Made[];
    return { made, commands: await this.redis.commands() };
  }

  /** Of several requests, less than a quarter of which made less: a busy machine and the background only add to one. */
  async counts(kind: RequestKind, extra = 0): Promise<Counts> {
    const traces: Trace[] = [];
    while (traces.length < COUNTED) traces.push(await this.trace(kind, extra));
    const of = (what: Kind): number =>
      quartile(traces.map(({ made }) => made.filter(({ kind: made }) => made === what).length));
    return {
      promises: of('promise'),
      timers: of('timer'),
      statements: of('statement'),
      commands: quartile(traces.map(({ commands }) => commands.length)),
    };
  }

  /** Bytes that each of these requests allocates on V8's heap, while so many are under way at once. */
  async bytes(kind: RequestKind, requests: number, atOnce: number, extra = 0): Promise<number> {
    const wires = await Promise.all(Array.from({ length: atOnce }, () => Wire.open(this.url)));
    let left = requests;
    const sendAll = async (wire: Wire): Promise<void> => {
      while (left-- > 0) await this.send(kind, extra, wire);
    };
    const { bytes: before } = (await this.ask('allocated')) as { bytes: number };
    await Promise.all(wires.map(sendAll));
    const { bytes: after } = (await this.ask('allocated')) as { bytes: number };
    for (const wire of wires) wire.leave();
    return (after - before) / requests;
  }

  async stop(): Promise<void> {
    this.redis.close();
    this.wire.leave();
    const ended = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill();
    await ended;
  }

  private async warmUp(): Promise<void> {
    for (let count = 0; count < WARM; count++) for (const kind of REQUEST_KINDS) await this.send(kind, 0);
  }

  private async send(kind: RequestKind, extra: number, wire = this.wire): Promise<void> {
    const key = isFirst(kind) ? randomUUID() : this.recorded;
    const path = isInTransaction(kind) ? '/transactional' : '/protected';
    const { status, body } = await wire.ask({
      path: kind === 'bare' ? '/bare' : path,
      headers: { 'Content-Type': 'application/json', 'Idempotency-Key': key },
      body: JSON.stringify({ user_id: 'path', extra }),
    });
    if (status !== 201) throw new Error(`A ${kind} was answered ${status}: ${body.toString()}`);
  }

  private ask(question: Question): Promise<Told> {
    const answer = told(this.child);
    this.child.send(question);
    return answer;
  }
}

function told(child: ChildProcess): Promise<Told> {
  return new Promise((resolve, reject) => {
    const failed = (code: number | null): void => reject(new Error(`The application ended with ${code}`));
    child.once('exit', failed);
    child.once('message', (message: Told) => {
      child.off('exit', failed);
      resolve(message);
    });
  });
}

function quartile(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 4)] ?? NaN;
}
