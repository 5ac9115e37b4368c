import { performance } from 'node:perf_hooks';
import { inBackground } from '../../../core/background';
import { OverloadedError, StoreUnavailableError } from '../../../core/errors';
import { settledWithin } from '../../../core/settled-within';
import { Lanes } from '../../batching/lanes';
import { Attempt, type AttemptResult, type Shared } from './attempt';
import { Clients } from './clients';
import { setupError } from './failures';
import { connectionsOf, QUEUE_LIMITS } from './turns';
import { Operation, type OperationOptions } from './operation';
import { Plans } from './plans';
import type { ApplicationPool } from './pool';
import { Wire } from './wire';

export interface PostgresConnectionOptions {
  /** Milliseconds that one operation may take with Postgres: connecting, and all its statements. So long it may also wait for its turn. */
  readonly timeout: number;
  /** Connections for requests at most; one more each for upkeep and for the looks of operators. */
  readonly poolSize: number;
  /** Whether statements are prepared by name, once per connection. @default true */
  readonly preparedStatements?: boolean;
}

/**
 * Sends the statements of one operation, all under one deadline, which begins with its turn.
 * Numbers come as `number`, booleans as `boolean`, everything else as the text that Postgres sent.
 */
export type Run = <Row>(text: string, values: readonly unknown[]) => Promise<Row[]>;

/** What is sent, and what is done with the answer; one of the two is called, once. */
export interface Statement<Row> {
  readonly text: string;
  readonly values: readonly unknown[];
  readonly onRows: (rows: Row[]) => void;
  readonly onError: (error: unknown) => void;
}

const TRANSIENT_RETRIES = 5;
const CLOSE_TIMEOUT = 1_000;

/**
 * The module's own small pool of connections, with the settings of the application's. It is apart from that
 * one, so that handlers that hold every connection of that one starve no claim, completion or heartbeat.
 *
 * Each statement is one transaction and needs nothing of the session but that it knows prepared statements;
 * where a pooler lends another session for each transaction, they are sent whole instead.
 */
export class PostgresConnection {
  /** Milliseconds that an operation may take, unless it says otherwise. */
  readonly timeout: number;
  private readonly shared: Shared;
  private closing: Promise<void> | undefined;

  constructor(
    application: ApplicationPool,
    { timeout, poolSize, preparedStatements = true }: PostgresConnectionOptions,
  ) {
    this.timeout = timeout;
    this.shared = {
      clients: new Clients(application, connectionsOf(poolSize), timeout),
      queues: {
        requests: new Lanes(QUEUE_LIMITS.requests(poolSize)),
        upkeep: new Lanes(QUEUE_LIMITS.upkeep()),
        looks: new Lanes(QUEUE_LIMITS.looks()),
      },
      wire: new Wire(),
      plans: new Plans(preparedStatements),
      attempts: new Set(),
      proven: new WeakSet(),
    };
  }

  /**
   * Starts the deadline of an operation.
   *
   * What it returns rejects with StoreUnavailableError if Postgres cannot be asked in time; with
   * IdempotencySetupError if the table is missing or closed to us; and with Postgres' own error otherwise.
   * @param name of the operation, for errors
   */
  operation(name: string, options: Partial<OperationOptions> = {}): Run {
    const operation = new Operation(name, { ...options, timeout: options.timeout ?? this.timeout });
    return <Row>(text: string, values: readonly unknown[]) =>
      new Promise<Row[]>((onRows, onError) => this.send(operation, { text, values, onRows, onError }));
  }

  /** Sends a statement, again where the first try had no effect, or may be repeated over another connection. */
  send<Row>(operation: Operation, { text, values, onRows, onError }: Statement<Row>): void {
    let everSent = false;
    let transients = 0;
    const attempt = (): void =>
      inBackground(() => new Attempt(this.shared, operation, text, values, ended).begin());
    const ended = (result: AttemptResult): void => {
      try {
        if ('rows' in result) return onRows(result.rows as Row[]);
      } catch (error) {
        return onError(error);
      }
      const { error, failure, retryable, sent } = result;
      everSent ||= sent;
      if (failure === 'refused') return onError(error);
      if (failure === 'setup') return onError(setupError(error));
      if (failure === 'unprepared') this.shared.plans.stopPreparing();
      // It waited as long as it may. Where others were answered meanwhile, Postgres has too much to do; else it is silent.
      if (failure === 'queued' && !this.closing && this.shared.wire.isUpSince(operation.began))
        return onError(new OverloadedError('postgres', operation.name, 'claims_late', everSent));
      if (failure === 'transient' && ++transients <= TRANSIENT_RETRIES)
        return void setTimeout(attempt, Math.random() * 5 * transients);
      if (retryable && !this.closing && performance.now() < operation.deadline) return attempt();
      onError(new StoreUnavailableError('postgres', operation.name, error, everSent));
    };
    attempt();
  }

  /** Whether Postgres has failed on the wire since then (monotonic, ms), and not answered after that. */
  isDownSince(time: number): boolean {
    return this.shared.wire.isDownSince(time);
  }

  /** Ends the pool. After a second at most no socket is left open, even if Postgres does not answer. */
  close(): Promise<void> {
    return (this.closing ??= this.shutDown());
  }

  private async shutDown(): Promise<void> {
    const { clients, attempts } = this.shared;
    await settledWithin(clients.end(), CLOSE_TIMEOUT);
    clients.destroyAll();
    // A pool that is ended leaves those in its queue without an answer.
    for (const attempt of attempts) attempt.giveUp(new Error('the connection is closed'));
  }
}
