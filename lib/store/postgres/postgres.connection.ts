import { Logger } from '@nestjs/common';
import { hash } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import type { Client, Pool, PoolClient, PoolConfig, QueryConfig, QueryResult } from 'pg';
import type { DataSource } from 'typeorm';
import { IdempotencySetupError, StoreUnavailableError } from '../../core/errors';
import { cancelStatement } from './cancel';
import { DeadlineError, failureOf, setupError, type Failure } from './failures';

export interface PostgresConnectionOptions {
  /** Milliseconds that one operation may take: the wait for a connection, connecting, and all its statements. */
  readonly timeout: number;
  /** Connections of the module's own pool at most. */
  readonly poolSize: number;
  /** Whether statements are prepared by name, once per connection. @default true */
  readonly preparedStatements?: boolean;
}

/**
 * Sends the statements of one operation, all under one deadline.
 * Numbers come as `number`, booleans as `boolean`, everything else as the text that Postgres sent.
 */
export type Run = <Row>(text: string, values: readonly unknown[]) => Promise<Row[]>;

export interface OperationOptions {
  /** In milliseconds, if not the connection's own. */
  readonly timeout?: number;
  /** Monotonic time (ms), if the operation began before its first statement. */
  readonly deadline?: number;
  /** Called before a statement is sent, from when on it may take effect. */
  readonly onSend?: () => void;
}

const TRANSIENT_RETRIES = 5;
/**
 * Milliseconds after which the plans of prepared statements are made anew. Postgres keeps the plan of a small table,
 * which reads all of it, until the next ANALYZE, however large it grows meanwhile.
 */
const PLANS_LAST = 1_000;
const CLOSE_TIMEOUT = 1_000;

/**
 * The module's own small pool of connections, with the settings of the DataSource's. It is apart from the
 * application's, so that handlers that hold every connection of that one starve no claim, completion or heartbeat.
 *
 * Each statement is a transaction by itself and needs nothing of the session but that it knows prepared statements;
 * where a pooler lends another session for each transaction, they are sent whole instead.
 */
export class PostgresConnection {
  private readonly logger = new Logger('Idempotency');
  private readonly pool: Pool;
  /** Milliseconds that an operation may take, unless it says otherwise. */
  readonly timeout: number;
  /** Every client whose socket may be open, also those that are still connecting. */
  private readonly clients = new Set<Client>();
  /** Clients that have answered before: if one turns out dead, Postgres itself need not be. */
  private readonly proven = new WeakSet<Client>();
  /** Whoever waits for Postgres: a pool that is ended leaves those in its queue without an answer. */
  private readonly waiting = new Set<(error: Error) => void>();
  private closing: Promise<void> | undefined;
  private prepares: boolean;
  /** Monotonic time (ms) at which the plans of a connection's prepared statements were last dropped. */
  private readonly plannedAt = new WeakMap<Client, number>();

  /** @throws IdempotencySetupError if the DataSource is not connected yet */
  constructor(
    dataSource: DataSource,
    { timeout, poolSize, preparedStatements = true }: PostgresConnectionOptions,
  ) {
    this.timeout = timeout;
    this.prepares = preparedStatements;
    this.pool = this.duplicate(applicationPool(dataSource), poolSize);
    this.pool.on('error', (error) =>
      this.logger.debug(`An idle Postgres connection was lost: ${error.message}`),
    );
  }

  /**
   * Starts the deadline of an operation.
   *
   * What it returns rejects with StoreUnavailableError if Postgres cannot be asked in time; with
   * IdempotencySetupError if the table is missing or closed to us; and with Postgres' own error otherwise.
   * @param name of the operation, for errors
   */
  operation(
    name: string,
    { timeout = this.timeout, deadline = performance.now() + timeout, onSend }: OperationOptions = {},
  ): Run {
    return async <Row>(text: string, values: readonly unknown[]) => {
      let everSent = false;
      for (let transients = 0; ;) {
        const attempt = await this.attempt<Row>(text, values, deadline, timeout, onSend);
        if ('rows' in attempt) return attempt.rows;

        const { error, failure, worthAnother, sent } = attempt;
        everSent ||= sent;
        if (failure === 'refused') throw error;
        if (failure === 'setup') throw setupError(error);
        if (failure === 'unprepared') this.stopPreparing();
        if (failure === 'transient' && ++transients <= TRANSIENT_RETRIES) {
          await delay(Math.random() * 5 * transients);
        } else if (!worthAnother || this.closing || performance.now() >= deadline) {
          throw new StoreUnavailableError('postgres', name, error, everSent);
        }
      }
    };
  }

  /** Ends the pool. After a second at most no socket is left open, even if Postgres does not answer. */
  close(): Promise<void> {
    return (this.closing ??= this.shutDown());
  }

  private async attempt<Row>(
    text: string,
    values: readonly unknown[],
    deadline: number,
    timeout: number,
    onSend?: () => void,
  ): Promise<Attempt<Row>> {
    let client: PoolClient;
    try {
      client = await this.checkOut(deadline, timeout);
    } catch (error) {
      return { error, failure: 'unavailable', worthAnother: false, sent: false };
    }
    const query = (config: QueryConfig): Promise<QueryResult> =>
      this.within(client.query(config), deadline, 'the statement', timeout);
    const name = this.prepares ? nameOf(text) : undefined;
    let sent = false;
    try {
      if (name && this.plansAreOld(client)) await query({ text: 'DISCARD PLANS' });
      onSend?.();
      sent = true;
      const result = await query({ name, text, values: [...values] });
      this.proven.add(client);
      client.release();
      return { rows: result.rows as Row[] };
    } catch (error) {
      withhold(error);
      const failure = failureOf(error);
      if (failure !== 'connection') {
        client.release();
        // Postgres has said no, so the statement had no effect.
        const worthAnother = failure === 'unprepared' && name !== undefined;
        return { error, failure, worthAnother, sent: false };
      }
      if (error instanceof DeadlineError) cancelStatement(client);
      // A server that was restarted leaves dead connections in the pool; all verbs may be sent twice.
      const worthAnother = this.proven.has(client) && !(error instanceof DeadlineError);
      destroy(client, error);
      return { error, failure, worthAnother, sent };
    }
  }

  /** True once in a while for each connection that has prepared something. */
  private plansAreOld(client: PoolClient): boolean {
    const now = performance.now();
    const plannedAt = this.plannedAt.get(client);
    if (plannedAt !== undefined && now - plannedAt < PLANS_LAST) return false;
    this.plannedAt.set(client, now);
    return plannedAt !== undefined;
  }

  private stopPreparing(): void {
    if (!this.prepares) return;
    this.prepares = false;
    this.logger.log(
      'Postgres is reached through a pooler that loses prepared statements: from now on each statement is sent and ' +
        'planned anew. `postgres.preparedStatements: false` does so from the start',
    );
  }

  private async checkOut(deadline: number, timeout: number): Promise<PoolClient> {
    const pending = this.pool.connect();
    try {
      return await this.within(pending, deadline, 'the wait for a connection', timeout);
    } catch (error) {
      // Given up, but the pool does not know: it may still hand over a client.
      pending.then(
        (late) => late.release(),
        () => undefined,
      );
      throw error;
    }
  }

  private duplicate(original: ApplicationPool, max: number): Pool {
    const { options } = original;
    const { clients } = this;
    const TrackedClient = class extends original.Client {
      constructor(config?: PoolConfig) {
        super(config);
        clients.add(this);
        this.on('error', () => undefined); // the statement under way, or the pool, is told as well
        this.once('end', () => clients.delete(this));
      }
    };
    const Pool = original.constructor as new (options: DuplicateConfig) => Pool;
    return new Pool({
      ...options,
      password: options.password, // not enumerable in a pool's options
      application_name: `${options.application_name ?? ''} idempotency`.trim(),
      Client: TrackedClient,
      max,
      min: 0,
      connectionTimeoutMillis: this.timeout, // also bounds the wait in the pool's queue
      query_timeout: 0, // ours covers more
      keepAlive: true,
      types: { getTypeParser },
      binary: false,
      pipeline: false,
    });
  }

  private async shutDown(): Promise<void> {
    const ended = [...this.clients].map((client) => new Promise((resolve) => client.once('end', resolve)));
    const closed = Promise.all([this.pool.end(), ...ended]);
    const timer = new AbortController();
    await Promise.race([closed, delay(CLOSE_TIMEOUT, undefined, { signal: timer.signal })]).catch(
      () => undefined,
    );
    timer.abort();
    for (const client of this.clients) destroySocket(client);
    for (const reject of this.waiting) reject(new Error('the connection is closed'));
  }

  /** Settles as `promise` does, or rejects at the deadline, or when the connection is closed. */
  private within<T>(promise: Promise<T>, deadline: number, what: string, timeout: number): Promise<T> {
    return new Promise((resolve, reject) => {
      const left = Math.max(0, deadline - performance.now());
      const timer = setTimeout(() => settle(() => reject(new DeadlineError(what, timeout))), left);
      const settle = (outcome: () => void): void => {
        clearTimeout(timer);
        this.waiting.delete(reject);
        outcome();
      };
      this.waiting.add(reject);
      promise.then(
        (value) => settle(() => resolve(value)),
        (error: unknown) => settle(() => reject(error instanceof Error ? error : new Error(String(error)))),
      );
    });
  }
}

type Attempt<Row> =
  | { readonly rows: Row[] }
  | {
      readonly error: unknown;
      readonly failure: Failure;
      /** Only this one connection was found dead. */
      readonly worthAnother: boolean;
      /** The statement may have taken effect. */
      readonly sent: boolean;
    };

/** What pg takes, including what its types do not know yet. */
type DuplicateConfig = PoolConfig & { binary: boolean; pipeline: boolean };

interface ApplicationPool {
  readonly options: PoolConfig;
  readonly Client: new (config?: PoolConfig) => Client;
}

/** The pool under the DataSource; with replication, the master's. */
function applicationPool(dataSource: DataSource): ApplicationPool {
  const { master } = dataSource.driver as { master?: ApplicationPool };
  if (!master) {
    throw new IdempotencySetupError(
      'the DataSource is not initialized yet. Initialize it before the application starts.',
    );
  }
  return master;
}

/** Our own, as an application may have changed pg's global type parsers. */
function getTypeParser(oid: number): (text: string) => unknown {
  switch (oid) {
    case 16: // boolean
      return (text) => text === 't';
    case 20: // bigint
    case 21: // smallint
    case 23: // integer
    case 701: // double precision
      return Number;
    default:
      return (text) => text;
  }
}

const names = new Map<string, string>();

/** The same name means the same statement, also to others who share a session with us. */
function nameOf(text: string): string {
  let name = names.get(text);
  if (name === undefined) {
    name = `idempotency_${hash('sha256', text, 'hex').slice(0, 32)}`;
    names.set(text, name);
  }
  return name;
}

/** Never back to the pool as healthy: the reply to our statement may still come over this socket. */
function destroy(client: PoolClient, error: unknown): void {
  client.release(error instanceof Error ? error : true);
  destroySocket(client);
}

function destroySocket(client: Client | PoolClient): void {
  (client as { connection?: { stream?: { destroy(): void } } }).connection?.stream?.destroy();
}

/** Postgres quotes rows and parameters in these, and with them keys and bodies, which do not belong in logs. */
function withhold(error: unknown): void {
  if (!(error instanceof Error)) return;
  for (const quoting of ['detail', 'where', 'internalQuery']) Reflect.deleteProperty(error, quoting);
}
