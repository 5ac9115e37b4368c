import { Logger } from '@nestjs/common';
import { performance } from 'node:perf_hooks';
import type { DataSource } from 'typeorm';
import { IdempotencySetupError } from '../core/errors';
import type { Isolation } from '../core/policy';
import { isOrphaned, type IdempotencyRecord, type RecordId } from '../core/record';
import type { CompleteResult } from '../core/store';
import type { BeginRequest, BeginResult } from '../core/transaction';
import type { OutcomeCipher } from '../outcome/outcome-cipher';
import type { Completion } from '../store/pending-writes';
import { Plans } from '../store/postgres/connection/plans';
import type { PostgresConnection } from '../store/postgres/connection/postgres.connection';
import { Ambient } from './ambient';
import { Beginning, type Begun } from './beginning';
import { Commit } from './commit';
import { Connections } from './connections';
import { Gates } from './gates';
import { Locks } from './lock';
import { OpenTransaction } from './open-transaction';
import { RouteWarnings } from './route-warnings';
import type { SessionSettings } from './session';
import { PLACES, type Places } from './statements';

const ONE_CONNECTION =
  'The pool of the DataSource has one connection, which a transaction holds until its handler has ended.';

/** It would wait for one of those that wait for it. */
function tooDeep(max: number): Error {
  const holders =
    max < 2
      ? ONE_CONNECTION
      : `The pool of the DataSource has ${max} connections, which ${max} transactions hold that are one within the other.`;
  return new Error(
    `${holders} Work with its own key within it needs another. Set \`poolSize\` to ${max + 1} at least.`,
  );
}

export interface TransactionsOptions {
  /** As the DataSource's settings name it. */
  readonly table: string;
  readonly cipher: OutcomeCipher;
  readonly retention: number;
  /** Milliseconds for one round trip. */
  readonly timeout: number;
  readonly preparedStatements: boolean;
  /** Transactions that may queue for their begin. */
  readonly maxQueued: number;
  /** What stands. */
  readonly find: (id: RecordId) => Promise<IdempotencyRecord | undefined>;
  readonly findInPostgres: (id: RecordId) => Promise<IdempotencyRecord | undefined>;
  /** Told what stands after a commit. */
  completed(
    completion: Completion,
    result: CompleteResult,
    /** Monotonic time (ms) at which the commit was sent. */
    askedAt: number,
  ): void;
}

interface RoundTrips {
  readonly beginning: Beginning;
  readonly commit: Commit;
}

/** Opens transactions on the application's DataSource, in which all joins that its handlers do there. */
export class Transactions {
  private readonly ambient: Ambient;
  private readonly connections: Connections;
  private readonly gates: Gates;
  private readonly warnings = new RouteWarnings();
  private readonly locks: Locks;
  /** The two round trips, once it is known where the table is. */
  private roundTrips: RoundTrips | undefined;
  private locating: Promise<RoundTrips> | undefined;

  /** @param connection of the module's own, for what must not wait for the application's pool */
  constructor(
    private readonly dataSource: DataSource,
    private readonly connection: PostgresConnection,
    private readonly options: TransactionsOptions,
  ) {
    const { timeout, preparedStatements, maxQueued } = options;
    const settings: SessionSettings = { timeout, plans: new Plans(preparedStatements) };
    this.locks = new Locks(connection);
    this.ambient = new Ambient(dataSource);
    this.connections = new Connections(dataSource, this.ambient, settings);
    this.gates = new Gates(this.connections.max, maxQueued);
    if (this.connections.max > 1) return;
    new Logger('Idempotency').warn(
      `${ONE_CONNECTION} Handlers of the transaction mode run one after another, and what they do in outside() waits ` +
        'for their time-out. Set `poolSize` to 2 at least.',
    );
  }

  /** @throws StoreUnavailableError, as OverloadedError where too many are open; IdempotencySetupError */
  async begin(request: BeginRequest): Promise<BeginResult> {
    const { name, policy, deadline } = request;
    const { max } = this.connections;
    if (this.ambient.depth >= max) throw tooDeep(max);
    const isNested = max > 1 && this.ambient.isCalledInside;
    const { beginning, commit } = this.roundTrips ?? (await this.locate());
    const entered = this.gates.enter(name, policy.maxConcurrent, deadline, isNested);
    const leave = typeof entered === 'function' ? entered : await entered;
    const startedAt = performance.now();
    let begun: Begun | 'locked' | 'standing';
    try {
      begun = await beginning.run(request, leave);
    } catch (error) {
      leave();
      throw error;
    }
    if (begun === 'locked') return { kind: 'locked' };
    if (begun === 'standing') return this.standing(request);
    const transaction = new OpenTransaction(begun, policy.timeout, startedAt, {
      ambient: this.ambient,
      patience: this.options.timeout,
      commit: (open, outcome) => commit.run(open, outcome),
      wroteNothing: () => this.warnings.wroteNothing(name),
      leftUnfinished: () => this.warnings.leftUnfinished(name),
      committed: (completion, result, askedAt) => this.options.completed(completion, result, askedAt),
      ended: leave,
    });
    return { kind: 'begun', transaction };
  }

  /** Whether a transaction of the key is open. @throws StoreUnavailableError */
  isLocked(id: RecordId): Promise<boolean> {
    return this.locks.isHeld(id);
  }

  private async standing({ id, fingerprint, claim }: BeginRequest): Promise<BeginResult> {
    const record = await this.options.find(id);
    if (!record) return { kind: 'lapsed' };
    const orphaned =
      isOrphaned(record) && record.fingerprint === fingerprint && record.token !== claim?.token;
    return orphaned ? { kind: 'lapsed' } : { kind: 'standing', record };
  }

  /** Where the table and its sequence are is asked once, as soon as Postgres can be. */
  private locate(): Promise<RoundTrips> {
    return (this.locating ??= this.askPlaces().finally(() => (this.locating = undefined)));
  }

  private async askPlaces(): Promise<RoundTrips> {
    const { table, findInPostgres: find, ...settings } = this.options;
    const [places] = await this.connection.operation('check')<Places>(PLACES, [table]);
    if (!places) throw new IdempotencySetupError(`the table ${table} is missing.`);
    const { isolationLevel } = this.dataSource.options as { isolationLevel?: Isolation };
    const isLocked = this.isLocked.bind(this);
    this.roundTrips = {
      beginning: new Beginning(this.connections, places, isolationLevel),
      commit: new Commit(places, { ...settings, find, isLocked }),
    };
    return this.roundTrips;
  }
}
