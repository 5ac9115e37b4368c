import { fork, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import type { IdempotencyModuleOptions } from '../../../lib';
import type { FromInstance, ToInstance } from './app';
import type { Faults } from './faults';
import type { Link } from './link';

/** A change of one file of the module: `from`, which is there once, becomes `to`. */
export interface Mutation {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

export interface InstanceOptions {
  readonly name: string;
  readonly ledger: string;
  readonly database: string;
  /** The link to Postgres. */
  readonly postgres: Link;
  /** The link to Redis. With neither this nor `redisUrl`: an application without Redis. */
  readonly redis: Link | undefined;
  /** Where Redis is, if no link leads there. */
  readonly redisUrl: string | undefined;
  readonly options: IdempotencyModuleOptions;
  /** How far this process' wall clock is ahead, in ms. */
  readonly clockSkew: number;
  /** A change of the module under which this process runs. */
  readonly mutation: Mutation | undefined;
  readonly faults: Faults;
}

/** One application process, with its own links to both stores. It can be frozen, killed and started again. */
export class Instance {
  private child: ChildProcess | undefined;
  private address = '';
  private exit: Promise<void> = Promise.resolve();
  private frozen = false;
  private toldToEnd = false;
  private readonly handled = new Set<string>();
  private readonly waiting = new Map<string, () => void>();
  private output = '';

  constructor(private readonly settings: InstanceOptions) {}

  get name(): string {
    return this.settings.name;
  }

  get postgres(): Link {
    return this.settings.postgres;
  }

  /** @throws Error for an instance without a link to Redis */
  get redis(): Link {
    if (!this.settings.redis) throw new Error(`${this.name} has no link to Redis`);
    return this.settings.redis;
  }

  get hasRedis(): boolean {
    return this.settings.redis !== undefined;
  }

  get url(): string {
    return this.address;
  }

  get running(): boolean {
    return this.child !== undefined;
  }

  /** @throws Error with the process' output if it ends before it listens */
  async start(): Promise<void> {
    const {
      ledger,
      database,
      postgres,
      redis,
      redisUrl = '',
      options,
      clockSkew,
      mutation,
      name,
    } = this.settings;
    const child = fork(join(__dirname, 'app.ts'), {
      execArgv: ['--no-warnings', '-r', join(__dirname, 'clock.js'), '-r', join(__dirname, '../../support/register.js')], // prettier-ignore
      env: {
        ...process.env,
        INSTANCE: name,
        LEDGER: ledger,
        DATABASE_URL: `postgres://postgres@127.0.0.1:${postgres.port}/${database}`,
        REDIS_URL: redis ? `redis://127.0.0.1:${redis.port}` : redisUrl,
        OPTIONS: JSON.stringify(options),
        CLOCK_SKEW_MS: String(clockSkew),
        ...(mutation && { MUTATION: JSON.stringify(mutation), PACKAGE: 'lib' }),
      },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.output = '';
    this.toldToEnd = false;
    child.stdout?.on('data', (chunk) => (this.output += String(chunk)));
    child.stderr?.on('data', (chunk) => (this.output += String(chunk)));
    this.exit = new Promise((resolve) => child.once('exit', () => resolve()));
    void this.exit.then(() => {
      if (this.child === child && !this.toldToEnd) this.settings.faults.ended(name, this.output);
    });
    const url = new Promise<string>((resolve, reject) => {
      child.on('message', (message: FromInstance) => {
        if ('url' in message) resolve(message.url);
        else this.handles(message.handling);
      });
      void this.exit.then(() => reject(new Error(`${name} ended:\n${this.output}`)));
    });
    this.child = child;
    this.address = await url;
  }

  /** Resolves once a handler of this key runs, or has run, in this instance. */
  handling(key: string): Promise<void> {
    if (this.handled.has(key)) return Promise.resolve();
    return new Promise((resolve) => this.waiting.set(key, resolve));
  }

  /** Lets the handler of this key, which was told to hold, end. */
  finish(key: string): void {
    this.child?.send({ finish: key } satisfies ToInstance);
  }

  /** SIGSTOP: it holds what it holds, and will believe that no time has passed. */
  freeze(): void {
    if (this.frozen || !this.child) return;
    this.frozen = true;
    this.settings.faults.begin('frozen', this.name);
    this.child.kill('SIGSTOP');
  }

  thaw(): void {
    if (!this.frozen) return;
    this.frozen = false;
    this.child?.kill('SIGCONT');
    this.settings.faults.end('frozen', this.name);
  }

  /** SIGKILL, at this very moment. */
  kill(): void {
    if (!this.child) return;
    this.settings.faults.happened('killed', this.name);
    this.child.kill('SIGKILL');
    this.frozen = false;
    this.child = undefined;
  }

  /** An orderly shutdown; resolves with the milliseconds that it took. */
  async shutDown(): Promise<number> {
    const before = performance.now();
    this.settings.faults.happened('shut down', this.name);
    this.toldToEnd = true;
    this.child?.kill('SIGTERM');
    await this.exit;
    this.child = undefined;
    return performance.now() - before;
  }

  /** Resolves when a process that was killed is gone. */
  async gone(): Promise<void> {
    if (!this.running) await this.exit;
  }

  async close(): Promise<void> {
    this.kill();
    await this.exit;
    await this.settings.postgres.close();
    await this.settings.redis?.close();
  }

  private handles(key: string): void {
    this.handled.add(key);
    this.waiting.get(key)?.();
  }
}
