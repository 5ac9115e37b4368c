import { join } from 'node:path';
import type { IdempotencyModuleOptions } from '../../../lib';
import { forkApp, type ForkedApp } from '../../support/processes';
import type { Faults } from './faults';
import type { Link } from './link';
import type { ToInstance } from './worker';

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
  /** Changes of the module under which this process runs. */
  readonly mutations: readonly Mutation[];
  readonly faults: Faults;
}

/** One application process, with its own links to both stores. It can be frozen, killed and started again. */
export class Instance {
  /** The process that runs, or ran last. */
  private app: ForkedApp | undefined;
  private isRunning = false;
  private address = '';
  private frozen = false;
  private toldToEnd = false;
  /** Of the route `changing`, from its next start. */
  changed: 'lease' | 'transaction' = 'lease';

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
    return this.isRunning;
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
      mutations,
      name,
    } = this.settings;
    const env = {
      INSTANCE: name,
      LEDGER: ledger,
      DATABASE_URL: `postgres://postgres@127.0.0.1:${postgres.port}/${database}`,
      REDIS_URL: redis ? `redis://127.0.0.1:${redis.port}` : redisUrl,
      OPTIONS: JSON.stringify(options),
      CLOCK_SKEW_MS: String(clockSkew),
      CHANGED: this.changed,
      ...(mutations.length > 0 ? { MUTATION: JSON.stringify(mutations), PACKAGE: 'lib' } : {}),
    };
    const app = forkApp(join(__dirname, 'app.ts'), env, [join(__dirname, 'clock.js')]);
    this.app = app;
    this.isRunning = true;
    this.toldToEnd = false;
    void app.exited.then(() => {
      if (this.app === app && !this.toldToEnd) this.settings.faults.ended(name, app.output());
    });
    this.address = await app.listening;
  }

  /** Resolves once a handler of this key runs, or has run, in this process. */
  handling(key: string): Promise<void> {
    if (!this.app) throw new Error(`${this.name} was never started`);
    return this.app.handling(key);
  }

  /** Lets the handler of this key, which was told to hold, end. */
  finish(key: string): void {
    if (this.isRunning) this.app?.child.send({ finish: key } satisfies ToInstance);
  }

  /** SIGSTOP: it holds what it holds, and will believe that no time has passed. */
  freeze(): void {
    if (this.frozen || !this.isRunning) return;
    this.frozen = true;
    this.settings.faults.begin('frozen', this.name);
    this.app?.child.kill('SIGSTOP');
  }

  thaw(): void {
    if (!this.frozen) return;
    this.frozen = false;
    this.app?.child.kill('SIGCONT');
    this.settings.faults.end('frozen', this.name);
  }

  /** SIGKILL, at this very moment. */
  kill(): void {
    if (!this.isRunning) return;
    this.settings.faults.happened('killed', this.name);
    this.end('SIGKILL');
    this.frozen = false;
    this.isRunning = false;
  }

  /** An orderly shutdown. */
  async shutDown(): Promise<void> {
    this.settings.faults.happened('shut down', this.name);
    this.end('SIGTERM');
    await this.app?.exited;
    this.isRunning = false;
  }

  /** Resolves when a process that was killed is gone. */
  async gone(): Promise<void> {
    if (!this.isRunning) await this.app?.exited;
  }

  async close(): Promise<void> {
    this.kill();
    await this.app?.exited;
    await this.settings.postgres.close();
    await this.settings.redis?.close();
  }

  private end(signal: NodeJS.Signals): void {
    this.toldToEnd = true;
    this.app?.child.kill(signal);
  }
}
