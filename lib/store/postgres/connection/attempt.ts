import type { PoolClient, QueryResult } from 'pg';
import { deadlines, type Deadline } from '../../../core/deadlines';
import type { Lanes } from '../../batching/lanes';
import { cancelStatement } from './cancel';
import type { Clients } from './clients';
import { DeadlineError, failureOf, type Failure } from './failures';
import type { Queue } from './turns';
import type { Operation } from './operation';
import type { Plans } from './plans';
import { nameOf } from './statement-name';
import { UnconfirmedCommitError } from './unconfirmed-commit';
import type { Wire } from './wire';

/** What the statements of one connection share. */
export interface Shared {
  readonly clients: Clients;
  /** Never more than there are connections: what waits, waits here, by lanes, and not in the pool. */
  readonly queues: Readonly<Record<Queue, Lanes>>;
  readonly wire: Wire;
  readonly plans: Plans;
  /** Those under way. */
  readonly attempts: Set<Attempt>;
  /** Clients that have answered before: if one turns out dead, Postgres itself need not be. */
  readonly proven: WeakSet<PoolClient>;
}

export type AttemptResult =
  | { readonly rows: unknown[] }
  | {
      readonly error: unknown;
      /** `queued`: it never had its turn. */
      readonly failure: Failure | 'queued';
      /** Only this one connection was found dead. */
      readonly retryable: boolean;
      /** The statement may have taken effect. */
      readonly sent: boolean;
    };

/**
 * Sends a statement once: it waits for its turn, then for a client, then for the answer, all under one deadline. By
 * callbacks, as each promise between them would cost every request.
 */
export class Attempt implements Deadline {
  dueAt: number;
  private waitsFor: 'its turn' | 'a client' | 'an answer' | 'nothing' = 'its turn';
  private readonly lanes: Lanes;
  private client: PoolClient | undefined;
  private sent = false;
  private name: string | undefined;
  private leaveQueue: (() => void) | undefined;

  constructor(
    private readonly shared: Shared,
    private readonly operation: Operation,
    private readonly text: string,
    private readonly values: readonly unknown[],
    private readonly onEnd: (result: AttemptResult) => void,
  ) {
    this.dueAt = operation.deadline;
    this.lanes = shared.queues[operation.turn.queue];
  }

  begin(): void {
    const queued = this.lanes.enter(this.operation.turn.lane);
    if (queued) {
      this.leaveQueue = queued.giveUp;
      void queued.entered.then(() => this.waitsFor === 'its turn' && this.connect());
    } else this.connect();
    if (this.waitsFor === 'nothing') return;
    this.shared.attempts.add(this);
    deadlines.add(this);
  }

  expire(late: number): void {
    if (this.operation.extend(late)) {
      this.dueAt = this.operation.deadline;
      return;
    }
    const what = this.waitsFor === 'an answer' ? 'the statement' : 'the wait for a connection';
    this.giveUp(new DeadlineError(what, this.operation.timeout));
  }

  giveUp(error: Error): void {
    switch (this.waitsFor) {
      case 'its turn':
        this.leaveQueue?.();
        return this.end({ error, failure: 'queued', retryable: false, sent: false });
      case 'a client':
        return this.unreachable(error); // the pool may still hand one over: its turn ends then
      case 'an answer':
        return this.fail(error);
      case 'nothing':
    }
  }

  private connect(): void {
    this.waitsFor = 'a client';
    this.operation.start();
    this.dueAt = this.operation.deadline;
    this.shared.clients.take((error, client) => {
      if (this.waitsFor === 'a client' && client) return this.send(client);
      if (client) this.shared.clients.giveBack(client);
      this.lanes.leave(this.operation.turn.lane);
      if (this.waitsFor === 'a client') this.unreachable(error);
    });
  }

  private unreachable(error: unknown): void {
    this.shared.wire.failed();
    this.end({ error, failure: 'unavailable', retryable: false, sent: false });
  }

  private send(client: PoolClient): void {
    const { plans } = this.shared;
    this.waitsFor = 'an answer';
    this.client = client;
    this.name = plans.arePrepared ? nameOf(this.text) : undefined;
    if (this.name === undefined || !plans.areOld(client)) return this.sendStatement(client);
    client.query('DISCARD PLANS', (error: Error | null) => {
      if (this.waitsFor !== 'an answer') return;
      if (error) this.fail(error);
      else this.sendStatement(client);
    });
  }

  private sendStatement(client: PoolClient): void {
    this.operation.onSend?.();
    this.sent = true;
    const { name, text, values } = this;
    const answered = (error: Error | null, result: QueryResult): void => {
      if (this.waitsFor !== 'an answer') return;
      if (error) this.fail(error);
      else this.succeed(client, result);
    };
    try {
      client.query({ name, text, values: [...values] }, answered);
    } catch (error) {
      this.fail(error);
    }
  }

  private succeed(client: PoolClient, { rows }: QueryResult): void {
    const { proven, wire, clients } = this.shared;
    const unconfirmed = clients.leftUnconfirmed(client);
    proven.add(client);
    wire.answered();
    clients.giveBack(client);
    this.lanes.leave(this.operation.turn.lane);
    // As where the reply was lost: what was committed here may be lost in a failover.
    const failure = 'connection';
    if (unconfirmed) this.end({ error: new UnconfirmedCommitError(), failure, retryable: false, sent: true });
    else this.end({ rows });
  }

  private fail(error: unknown): void {
    const { wire } = this.shared;
    if (!this.client) return;
    stripRowData(error);
    const failure = failureOf(error);
    if (failure === 'connection' || failure === 'unavailable') wire.failed();
    else wire.answered();
    const result = this.leaveClient(this.client, error, failure);
    this.lanes.leave(this.operation.turn.lane);
    this.end(result);
  }

  private leaveClient(client: PoolClient, error: unknown, failure: Failure): AttemptResult {
    const { clients, proven } = this.shared;
    if (failure !== 'connection') {
      clients.giveBack(client);
      // Postgres has said no, so the statement had no effect.
      const retryable = failure === 'unprepared' && this.name !== undefined;
      return { error, failure, retryable, sent: false };
    }
    if (error instanceof DeadlineError) void cancelStatement(client);
    // A server that was restarted leaves dead connections in the pool; all verbs may be sent twice.
    const retryable = proven.has(client) && !(error instanceof DeadlineError);
    clients.destroy(client, error);
    return { error, failure, retryable, sent: this.sent };
  }

  private end(result: AttemptResult): void {
    this.waitsFor = 'nothing';
    this.shared.attempts.delete(this);
    deadlines.delete(this);
    this.onEnd(result);
  }
}

/** Postgres quotes rows and parameters in these, and with them keys and bodies, which do not belong in logs. */
function stripRowData(error: unknown): void {
  if (!(error instanceof Error)) return;
  for (const quoting of ['detail', 'where', 'internalQuery']) Reflect.deleteProperty(error, quoting);
}
