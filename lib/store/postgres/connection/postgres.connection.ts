import { Logger } from '@nestjs/common';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import type { Client, Pool, PoolClient, QueryConfig, QueryResult } from 'pg';
import type { DataSource } from 'typeorm';
import { inBackground } from '../../../core/background';
import { OverloadedError, StoreUnavailableError } from '../../../core/errors';
import { Lanes } from '../../batching/lanes';
import { cancelStatement } from './cancel';
import { DeadlineError, failureOf, setupError, type Failure } from './failures';
import { isUpkeep, laneLimits, laneOf } from './lanes';
import { destroy, destroySocket, ownPool } from './pool';
import { nameOf } from './statement-name';
import { Turn } from './turn';
import { Wire } from './wire';

export interface PostgresConnectionOptions {
  /** Milliseconds that one operation may take with Postgres: connecting, and all its statements. So long it may also wait for its turn. */
  readonly timeout: number;
  /** Connections of the module's own pool at most. */
  readonly poolSize: number;
  /** Whether statements are prepared by name, once per connection. @default true */
  readonly preparedStatements?: boolean;
}

/**
 * Sends the statements of one operation, all under one deadline, which begins with its turn.
 * Numbers come as `number`, booleans as `boolean`, everything else as the text that Postgres sent.
 */
export type Run = <Row>(text: string, values: readonly unknown[]) => Promise<Row[]>;

export interface OperationOptions {
  /** In milliseconds, if not the connection's own. */
  readonly timeout?: number;
  /** Monotonic time (ms) by which it must have its turn. @default `timeout` from now */
  readonly deadline?: number;
  /** Called when it has its turn: from now on Postgres has `timeout` ms. */
  readonly onStart?: () => void;
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
  /** Never more than there are connections: what waits, waits here, by lanes, and not in the pool. */
  private readonly lanes: Lanes;
  /** What may take long, one at a time, so that no request waits for it: on a connection more. */
  private readonly upkeep = new Lanes([1]);
  private readonly wire = new Wire();
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
    this.pool = ownPool(dataSource, poolSize + 1, timeout, this.clients);
    this.lanes = new Lanes(laneLimits(poolSize));
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
    {
      timeout = this.timeout,
      deadline = performance.now() + timeout,
      onStart,
      onSend,
    }: OperationOptions = {},
  ): Run {
    const turn = new Turn({
      ...(isUpkeep(name) ? { lanes: this.upkeep, lane: 0 } : { lanes: this.lanes, lane: laneOf(name) }),
      timeout,
      deadline,
      onStart,
    });
    return async <Row>(text: string, values: readonly unknown[]) => {
      let everSent = false;
      for (let transients = 0; ;) {
        const attempt = await inBackground(() => this.attempt<Row>(text, values, turn, onSend));
        if ('rows' in attempt) return attempt.rows;

        const { error, failure, retryable: worthAnother, sent } = attempt;
        everSent ||= sent;
        if (failure === 'refused') throw error;
        if (failure === 'setup') throw setupError(error);
        if (failure === 'unprepared') this.stopPreparing();
        if (failure === 'queued' && !this.closing && !this.wire.isDownSince(turn.since)) {
          throw new OverloadedError('postgres', name, 'claims_late', everSent);
        }
        if (failure === 'transient' && ++transients <= TRANSIENT_RETRIES) {
          await delay(Math.random() * 5 * transients);
        } else if (!worthAnother || this.closing || turn.isOver) {
          throw new StoreUnavailableError('postgres', name, error, everSent);
        }
      }
    };
  }

  /** Whether Postgres has failed on the wire since then (monotonic, ms), and not answered after that. */
  isDownSince(time: number): boolean {
    return this.wire.isDownSince(time);
  }

  /** Ends the pool. After a second at most no socket is left open, even if Postgres does not answer. */
  close(): Promise<void> {
    return (this.closing ??= this.shutDown());
  }

  private async attempt<Row>(
    text: string,
    values: readonly unknown[],
    turn: Turn,
    onSend?: () => void,
  ): Promise<Attempt<Row>> {
    const { lanes, lane } = turn;
    const queued = lanes.enter(lane);
    if (queued) {
      try {
        await turn.withDeadline(queued.entered, 'the wait for a connection', this.waiting);
      } catch (error) {
        queued.giveUp();
        return { error, failure: 'queued', retryable: false, sent: false };
      }
    }
    turn.start();
    const pending = this.pool.connect();
    try {
      const client = await turn.withDeadline(pending, 'the wait for a connection', this.waiting);
      const attempt = await this.send<Row>(client, text, values, turn, onSend);
      lanes.leave(lane);
      return attempt;
    } catch (error) {
      this.wire.failed();
      // Given up, but the pool does not know: it may still hand over a client.
      void pending
        .then(
          (late) => late.release(),
          () => undefined,
        )
        .finally(() => lanes.leave(lane));
      return { error, failure: 'unavailable', retryable: false, sent: false };
    }
  }

  /** Never rejects. Takes care of the client. */
  private async send<Row>(
    client: PoolClient,
    text: string,
    values: readonly unknown[],
    turn: Turn,
    onSend?: () => void,
  ): Promise<Attempt<Row>> {
    const query = (config: QueryConfig): Promise<QueryResult> =>
      turn.withDeadline(client.query(config), 'the statement', this.waiting);
    const name = this.prepares ? nameOf(text) : undefined;
    let sent = false;
    try {
      if (name && this.plansAreOld(client)) await query({ text: 'DISCARD PLANS' });
      onSend?.();
      sent = true;
      const result = await query({ name, text, values: [...values] });
      this.proven.add(client);
      this.wire.answered();
      client.release();
      return { rows: result.rows as Row[] };
    } catch (error) {
      stripRowData(error);
      const failure = failureOf(error);
      if (failure === 'connection' || failure === 'unavailable') this.wire.failed();
      else this.wire.answered();
      if (failure !== 'connection') {
        client.release();
        // Postgres has said no, so the statement had no effect.
        const worthAnother = failure === 'unprepared' && name !== undefined;
        return { error, failure, retryable: worthAnother, sent: false };
      }
      if (error instanceof DeadlineError) cancelStatement(client);
      // A server that was restarted leaves dead connections in the pool; all verbs may be sent twice.
      const worthAnother = this.proven.has(client) && !(error instanceof DeadlineError);
      destroy(client, error);
      return { error, failure, retryable: worthAnother, sent };
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
}

type Attempt<Row> =
  | { readonly rows: Row[] }
  | {
      readonly error: unknown;
      /** `queued`: it never had its turn. */
      readonly failure: Failure | 'queued';
      /** Only this one connection was found dead. */
      readonly retryable: boolean;
      /** The statement may have taken effect. */
      readonly sent: boolean;
    };

/** Postgres quotes rows and parameters in these, and with them keys and bodies, which do not belong in logs. */
function stripRowData(error: unknown): void {
  if (!(error instanceof Error)) return;
  for (const quoting of ['detail', 'where', 'internalQuery']) Reflect.deleteProperty(error, quoting);
}
