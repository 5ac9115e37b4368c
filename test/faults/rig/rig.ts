import { createHash, randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  startPostgres,
  startRedis,
  type RunningPostgres,
  type RunningRedis,
  type RunningServer,
} from '../../../servers';
import type { IdempotencyModuleOptions } from '../../../lib';
import { migrated, sql } from '../../support/database';
import { eventually } from '../../support/eventually';
import { call } from '../../support/http';
import { CREATE_EFFECT, readEffects } from './effect';
import type { EffectCounts, Row } from './effect-rules';
import { Faults } from './faults';
import { Instance, type Mutation } from './instance';
import { monotonicNow, readLedger, type Execution } from './ledger';
import { Link } from './link';
import { isOverdue, judge, type Forgetting, type Sighting, type Violation } from './oracle';
import { PostgresReader, RedisReader, type StatementReader } from './statements';
import { nonceOf, recordsInPostgres, recordsInRedis, withRedis } from './stores';
import type { Deletion, Work } from './worker';

export type Route =
  | ('retry' | 'reject' | 'fast')
  | ('transaction' | 'serializable')
  | 'changing'
  | ('record-first' | 'record-last');

/** The servers of a Redis, beyond a single one. */
export interface RedisTopology {
  /** How an application process finds it, as `REDIS_URL` (see `app.ts`). */
  readonly url: string;
  readonly servers: readonly [RunningRedis, RunningRedis, ...RunningRedis[]];
  /** The ports of those that hold the records now. */
  primaryPorts(): Promise<readonly number[]>;
}

export interface RigOptions {
  /** The module's, beside the rig's short time-outs. */
  readonly options?: IdempotencyModuleOptions;
  /** The stores that each instance is configured with. @default three times 'both' */
  readonly instances?: readonly ('both' | 'postgres')[];
  /** How far each instance's wall clock is ahead, in ms. */
  readonly clockSkew?: readonly number[];
  /** Beside ours, such as `--maxmemory`. */
  readonly redisArgs?: readonly string[];
  /** In place of one Redis with a replica, whom each instance reaches over a link. The rig stops its servers. */
  readonly redisTopology?: RedisTopology;
  readonly postgresSettings?: Readonly<Record<string, string>>;
  readonly mutations?: readonly Mutation[];
  /** See the oracle. */
  readonly forgets?: number;
  /** See the oracle. */
  readonly retention?: number;
}

export interface Send extends Work {
  /** @default 'retry' */
  readonly route?: Route;
  /** The client leaves after so many ms. */
  readonly patience?: number;
}

export interface Report {
  readonly keys: number;
  readonly requests: number;
  readonly executions: number;
  /** Records that an operator was told are deleted. */
  readonly forgettings: number;
  readonly faults: number;
  /** Of keys that were answered in a transaction. */
  readonly effects: EffectCounts;
  /** What was lost as README says that it can be. */
  readonly losses: readonly Violation[];
  readonly violations: readonly Violation[];
}

const LEASE = 3_000;
/** Short, so that what depends on time happens within a test; the lease is long beside what a busy machine loses. */
const OPTIONS = {
  lease: LEASE,
  waitTimeout: '5s',
  redis: { timeout: '250ms' },
  postgres: { timeout: '1s', cleanupInterval: false },
} as const satisfies IdempotencyModuleOptions;
/**
 * By then every request is answered: it waits for `waitTimeout` at most, and each of its two questions to Postgres
 * takes a time-out. The rest is for handlers, and for a machine that does other things as well.
 */
const DEADLINE = 20_000;

/**
 * Three application processes, each with a link of its own to Postgres and to Redis, a replica of that Redis, and an
 * oracle. All are real processes of this machine, on free ports and in temporary folders.
 */
export class Rig {
  readonly faults = new Faults();
  readonly sightings: Sighting[] = [];
  readonly forgettings: Forgetting[] = [];
  private failedOver = false;

  private constructor(
    private readonly folder: string,
    private postgresServer: RunningPostgres,
    private readonly topology: RedisTopology,
    private readonly database: string,
    private instanceList: readonly Instance[],
    private readonly judging: Pick<RigOptions, 'forgets' | 'retention'>,
  ) {}

  static async start(options: RigOptions = {}): Promise<Rig> {
    const folder = await mkdtemp(join(tmpdir(), 'nestjs-idempotency-rig-'));
    await writeFile(join(folder, 'ledger'), '');
    const [postgres, topology] = await Promise.all([
      startPostgres({ settings: options.postgresSettings }),
      options.redisTopology ?? startWithReplica(options.redisArgs),
    ]);
    const databaseUrl = await postgres.createDatabase();
    const rig = new Rig(folder, postgres, topology, new URL(databaseUrl).pathname, [], options);
    try {
      await (await migrated(databaseUrl)).destroy();
      await sql(databaseUrl, CREATE_EFFECT);
      rig.instanceList = await rig.makeInstances(options);
      await Promise.all(rig.instanceList.map((instance) => instance.start()));
      return rig;
    } catch (error) {
      await rig.stop();
      throw error;
    }
  }

  get postgres(): RunningPostgres {
    return this.postgresServer;
  }

  get databaseUrl(): string {
    return new URL(this.database, this.postgres.url).href;
  }

  /** The Redis that applications reach over their links. */
  get redis(): RunningRedis {
    return this.topology.servers[this.failedOver ? 1 : 0];
  }

  get replica(): RunningRedis {
    return this.topology.servers[this.failedOver ? 0 : 1];
  }

  get instances(): readonly Instance[] {
    return this.instanceList;
  }

  /** @throws Error if there is none of this index */
  instance(index: number): Instance {
    const found = this.instanceList[index];
    if (!found) throw new Error(`There is no instance ${index}`);
    return found;
  }

  /** Sends a request and writes down what its client saw. Never rejects. */
  async send(
    instance: Instance,
    key: string,
    { route = 'retry', patience, ...work }: Send = {},
  ): Promise<Sighting> {
    const from = monotonicNow();
    const request = { route, key, instance: instance.name, from } as const;
    const answer = await call(`${instance.url}/${route}`, {
      headers: { 'idempotency-key': key, 'x-work': JSON.stringify(work) },
      body: {},
      signal: AbortSignal.timeout(patience ?? DEADLINE),
    }).catch(() => undefined);
    const to = monotonicNow();
    const overdue =
      patience === undefined && to - from >= DEADLINE && isOverdue(this.faults, instance.name, from, to);
    const ok = answer !== undefined && answer.status < 300;
    const sighting: Sighting = {
      ...request,
      to,
      overdue,
      status: answer?.status,
      nonce: ok ? nonceOf(answer.text) : undefined,
      body: ok ? createHash('sha256').update(answer.body).digest('hex') : undefined,
      refused: answer && !ok ? nonceOf(answer.text) : undefined,
      problem: answer && !ok ? problemOf(answer.text) : undefined,
    };
    this.sightings.push(sighting);
    return sighting;
  }

  /**
   * Has an operator delete the record of a key, and writes down if that was done, or may be: then the operator was not
   * told, and it is undefined. Never rejects.
   */
  async forget(
    instance: Instance,
    key: string,
    { route, by }: Omit<Deletion, 'key'>,
  ): Promise<boolean | undefined> {
    const from = monotonicNow();
    const answer = await call(`${instance.url}/operator`, {
      headers: { 'x-work': JSON.stringify({ key, route, by } satisfies Deletion) },
      body: {},
      signal: AbortSignal.timeout(DEADLINE),
    }).catch(() => undefined);
    const { deleted } = (answer?.status === 201 ? JSON.parse(answer.text) : {}) as { deleted?: boolean };
    const told = deleted === undefined ? 'nothing' : 'deleted';
    if (deleted !== false) this.forgettings.push({ told, route, key, from, to: monotonicNow() });
    return deleted;
  }

  /** Asks again until the client sees what it waits for. */
  async sendUntil(
    instance: Instance,
    key: string,
    send: Send,
    enough: (seen: Sighting) => boolean,
  ): Promise<Sighting> {
    return eventually(async () => {
      const seen = await this.send(instance, key, send);
      if (!enough(seen)) throw new Error(`Not that: ${JSON.stringify(seen)}`);
      return seen;
    }, DEADLINE);
  }

  /** Asks again until there is an answer, as a client does that needs it. */
  sendUntilAnswered(instance: Instance, key: string, send: Send = {}): Promise<Sighting> {
    return this.sendUntil(instance, key, send, ({ nonce }) => nonce !== undefined);
  }

  /** From now on, for some twenty new keys, this instance asks Redis first: it has met the retries of so many others. */
  async expectRetries(instance: Instance): Promise<void> {
    const answering = this.instanceList.find((other) => other !== instance) ?? instance;
    for (let n = 0; n < 10; n++) {
      const key = randomUUID();
      await this.sendUntilAnswered(answering, key);
      await this.sendUntilAnswered(instance, key);
    }
  }

  executions(key?: string): Execution[] {
    const all = readLedger(join(this.folder, 'ledger'));
    return key === undefined ? all : all.filter((one) => one.key === key);
  }

  /** The rows that handlers have left. */
  async effects(key?: string): Promise<Row[]> {
    const all = await readEffects(this.databaseUrl);
    return key === undefined ? all : all.filter((one) => one.key === key);
  }

  /** SIGSTOP to all of a server's processes. */
  freeze(server: RunningServer): void {
    this.faults.begin(`${this.nameOf(server)} frozen`);
    server.kill('SIGSTOP');
  }

  thaw(server: RunningServer): void {
    server.kill('SIGCONT');
    this.faults.end(`${this.nameOf(server)} frozen`);
  }

  /** SIGKILL to all of a server's processes, or another signal that ends it. */
  async kill(server: RunningServer, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.faults.begin(`${this.nameOf(server)} ${signal === 'SIGKILL' ? 'killed' : 'shut down'}`);
    const { pid } = server;
    server.kill(signal);
    await eventually(() => {
      if (isAlive(pid)) throw new Error(`${pid} still runs`);
    });
  }

  async restart(server: RunningServer): Promise<void> {
    this.faults.begin(`${this.nameOf(server)} killed`);
    await server.restart();
    this.faults.end(`${this.nameOf(server)} killed`);
    this.faults.end(`${this.nameOf(server)} shut down`);
  }

  /** From now on the replica hears nothing of what Redis is told: it lags. */
  async cutReplication(): Promise<void> {
    await withRedis(this.replica.port, (replica) => replica.replicaof('127.0.0.1', 1));
  }

  /** Redis is killed, and its replica takes its place, for good. */
  async failOverRedis(): Promise<void> {
    await this.kill(this.redis);
    await withRedis(this.replica.port, (replica) => replica.replicaof('NO', 'ONE'));
    this.failedOver = true;
    for (const instance of this.instanceList) if (instance.hasRedis) instance.redis.redirect(this.redis.port);
  }

  /** This is the rig's Postgres from now on, to which every link leads. The one before is its caller's to stop. */
  failOverPostgres(postgres: RunningPostgres): void {
    this.faults.happened('postgres failed over');
    this.postgresServer = postgres;
    for (const instance of this.instanceList) instance.postgres.redirect(postgres.port);
  }

  /** Ends all sessions of Postgres but one's own, as an administrator may. */
  async endSessions(): Promise<void> {
    this.faults.happened('postgres sessions ended');
    await sql(
      this.databaseUrl,
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()',
    ).catch(() => undefined); // it may be away itself
  }

  /** Ends every fault, and waits until each instance says that all is well. */
  async heal(): Promise<void> {
    for (const server of [this.postgres, ...this.topology.servers]) {
      server.kill('SIGCONT');
      if (!isAlive(server.pid)) await server.restart();
    }
    for (const instance of this.instanceList) {
      instance.postgres.unwatch();
      await instance.postgres.set('pass');
      if (instance.hasRedis) {
        instance.redis.unwatch();
        await instance.redis.set('pass');
      }
      instance.thaw();
    }
    for (const fault of this.faults.list) fault.to = Math.min(fault.to, monotonicNow());
    await Promise.all(
      this.instanceList.map(async (instance) => {
        if (!instance.running) await instance.start();
        await eventually(() => this.wellness(instance), 30_000);
      }),
    );
  }

  /**
   * Heals everything, asks for every key again, empties Redis, asks once more, and has the oracle judge all that was
   * ever seen.
   */
  async verdict(): Promise<Report> {
    await this.heal();
    await this.converge();
    const ports = await this.primaryPorts();
    const inRedis = (await Promise.all(ports.map(recordsInRedis))).flat();
    const inPostgres = await recordsInPostgres(this.databaseUrl);
    await Promise.all(ports.map((port) => withRedis(port, (redis) => redis.flushall())));
    await this.converge();
    const executions = this.executions();
    const { violations, losses, effects } = judge({
      executions,
      sightings: this.sightings,
      forgettings: this.forgettings,
      redis: inRedis,
      postgres: inPostgres,
      effects: await this.effects(),
      faults: this.faults,
      lease: LEASE,
      forgets: this.judging.forgets,
      retention: this.judging.retention,
    });
    return {
      keys: new Set(this.sightings.map(({ route, key }) => `${route} ${key}`)).size,
      requests: this.sightings.length,
      executions: executions.length,
      forgettings: this.forgettings.filter(({ told }) => told === 'deleted').length,
      faults: this.faults.list.length,
      effects,
      losses,
      violations: [
        ...violations,
        ...this.unsettled(),
        ...this.faults.crashes.map((detail) => ({
          promise: 'a process ends only when told to',
          key: '',
          detail,
        })),
      ],
    };
  }

  /** Leaves no process and no file behind. */
  async stop(): Promise<void> {
    await Promise.all(this.instanceList.map((instance) => instance.close()));
    await Promise.all([this.postgres, ...this.topology.servers].map((server) => server.stop()));
    await rm(this.folder, { recursive: true, force: true });
  }

  private async primaryPorts(): Promise<readonly number[]> {
    return this.failedOver ? [this.redis.port] : this.topology.primaryPorts();
  }

  private nameOf(server: RunningServer): string {
    if (server === this.postgres) return 'postgres';
    if (server === this.redis) return 'redis';
    if (server === this.replica) return 'redis replica';
    return `${this.topology.servers.includes(server) ? 'redis' : 'postgres'} at ${server.port}`;
  }

  private makeInstances({
    options = {},
    instances = ['both', 'both', 'both'],
    clockSkew = [],
    redisTopology,
    mutations = [],
  }: RigOptions): Promise<Instance[]> {
    return Promise.all(
      instances.map(async (stores, index) => {
        const name = String.fromCharCode('A'.charCodeAt(0) + index);
        return new Instance({
          name,
          ledger: join(this.folder, 'ledger'),
          database: new URL(this.databaseUrl).pathname.slice(1),
          postgres: await this.link('postgres', name, this.postgres.port, () => new PostgresReader()),
          redis:
            stores === 'both' && !redisTopology
              ? await this.link('redis', name, this.redis.port, () => new RedisReader())
              : undefined,
          redisUrl: stores === 'both' ? redisTopology?.url : undefined,
          options: {
            ...OPTIONS,
            ...options,
            ...(stores === 'both' ? { redis: { ...OPTIONS.redis, ...options.redis } } : { redis: false }),
            postgres: { ...OPTIONS.postgres, ...options.postgres },
          },
          clockSkew: clockSkew[index] ?? 0,
          mutations,
          faults: this.faults,
        });
      }),
    );
  }

  private link(store: string, instance: string, port: number, reader: () => StatementReader): Promise<Link> {
    return Link.open(port, reader, {
      mode: (mode) => {
        this.faults.end(`${store} link`, instance);
        if (mode !== 'pass') this.faults.begin(`${store} link: ${mode}`, instance);
      },
      ruling: (ruling) => this.faults.happened(`${store} link: ${ruling}`, instance),
    });
  }

  private async wellness(instance: Instance): Promise<void> {
    const { text } = await call(`${instance.url}/health`, {
      method: 'GET',
      signal: AbortSignal.timeout(5_000),
    });
    const { redis, postgres } = JSON.parse(text) as { redis: string; postgres: string };
    if (postgres !== 'up' || redis === 'down') throw new Error(`${instance.name} says ${text}`);
  }

  /** Asks for every key until it has its final answer. */
  private async converge(): Promise<void> {
    const left = [
      ...new Map(this.sightings.map(({ route, key }) => [`${route} ${key}`, { route, key }])).values(),
    ];
    const worker = async (index: number): Promise<void> => {
      for (let next = left.pop(); next; next = left.pop()) {
        const { route, key } = next;
        for (let tries = 0; tries < 5; tries++) {
          const instance = this.instance((index + tries) % this.instanceList.length);
          if (isFinal(await this.send(instance, key, { route: route as Route }))) break;
        }
      }
    };
    await Promise.all(Array.from({ length: 16 }, (_, index) => worker(index)));
  }

  /** Keys whose last answer, after everything was healed, was not final. */
  private unsettled(): Violation[] {
    const last = new Map(this.sightings.map((one) => [`${one.route} ${one.key}`, one]));
    return [...last]
      .filter(([, seen]) => !isFinal(seen))
      .map(([key, detail]) => ({ promise: 'every key converges', key, detail }));
  }
}

async function startWithReplica(args?: readonly string[]): Promise<RedisTopology> {
  const redis = await startRedis({ args });
  const replica = await startRedis({ args: ['--replicaof', `127.0.0.1 ${redis.port}`] });
  return { url: redis.url, servers: [redis, replica], primaryPorts: () => Promise.resolve([redis.port]) };
}

/** What no further retry changes: the recorded response, or that only an operator can tell the outcome. */
function isFinal({ status = Infinity, nonce, refused, problem }: Sighting): boolean {
  return nonce !== undefined || (refused !== undefined && status < 500) || problem === 'outcome-unknown';
}

/** The last part of a problem's type, such as `in-flight`. */
function problemOf(body: string): string | undefined {
  try {
    return (JSON.parse(body) as { type?: string }).type?.split(':').at(-1);
  } catch {
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
