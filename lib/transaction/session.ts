import type { Client } from 'pg';
import type { QueryRunner } from 'typeorm';
import { cancelStatement } from '../store/postgres/connection/cancel';
import { destroySocket } from '../store/postgres/connection/pool';
import { nameOf } from '../store/postgres/connection/statement-name';
import type { Plans } from '../store/postgres/connection/plans';
import type { Value } from './messages';
import { forgetPrepared } from './pipeline';
import { roundTrip } from './round-trip';
import type { StatementResult } from './pipeline';

/** What is sent: a text and its parameters. */
export type Statement = readonly [text: string, ...values: Value[]];

/** What all sessions of a pool share. */
export interface SessionSettings {
  /** Milliseconds for one round trip. */
  readonly timeout: number;
  readonly plans: Plans;
}

/** By client, the process of the server that served it last: poolers lend another one for each transaction. */
const servedBy = new WeakMap<Client, unknown>();

/** Whether Postgres still works on a statement of this client. What is missing in pg's types. */
function isBusy(client: Client): boolean {
  const { readyForQuery, connection } = client as {
    readyForQuery?: boolean;
    connection?: { stream?: { destroyed?: boolean } };
  };
  return readyForQuery === false && connection?.stream?.destroyed === false;
}

/** A connection of the application's pool, which is ours until it is released. */
export class Session {
  private released = false;
  /** Whether something is wrong with the connection, so that it must not be used again. */
  private broken = false;

  constructor(
    readonly queryRunner: QueryRunner,
    private readonly client: Client,
    private readonly settings: SessionSettings,
  ) {}

  /** Milliseconds for one round trip. */
  get timeout(): number {
    return this.settings.timeout;
  }

  /**
   * Sends statements together, and waits for all their answers.
   * @throws RoundTripError
   */
  send(statements: readonly Statement[]): Promise<readonly StatementResult[]> {
    const { plans, timeout } = this.settings;
    if (plans.arePrepared && plans.areOld(this.client)) forgetPrepared(this.client);
    const named = statements.map(([text, ...values]) => ({
      text,
      values,
      name: plans.arePrepared ? nameOf(text) : undefined,
    }));
    return roundTrip(this.client, named, timeout, (failure) => {
      if (failure === 'connection') this.broken = true;
      if (failure === 'unprepared') plans.stopPreparing();
    });
  }

  /** What was prepared with another process is prepared anew with this one: the rest of the transaction is up to it. */
  isServedBy(backend: unknown): void {
    if (servedBy.has(this.client) && servedBy.get(this.client) !== backend) forgetPrepared(this.client);
    servedBy.set(this.client, backend);
  }

  /** Whether the connection has failed, so that nothing more can be asked of it. */
  get isBroken(): boolean {
    return this.broken || this.queryRunner.isReleased;
  }

  /** Gives the connection back, or ends it if it is of no more use. */
  release(): void {
    if (this.released) return;
    this.released = true;
    if (!this.broken) return void this.queryRunner.release();
    // Else it would keep its locks until it ends: the application's own time-out for queries ends no statement.
    if (isBusy(this.client)) void cancelStatement(this.client);
    destroySocket(this.client); // pg tells the query runner, which tells the pool
  }

  /** Ends the connection, and with it its transaction. */
  destroy(): void {
    this.broken = true;
    this.release();
  }
}
