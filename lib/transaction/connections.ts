import { performance } from 'node:perf_hooks';
import type { Pool, PoolClient } from 'pg';
import type { DataSource } from 'typeorm';
import { deadlines, type Deadline } from '../core/deadlines';
import { OverloadedError, StoreUnavailableError } from '../core/errors';
import { DeadlineError } from '../store/postgres/connection/failures';
import { applicationPool } from '../store/postgres/connection/pool';
import type { Ambient } from './ambient';
import { Session, type SessionSettings } from './session';

/**
 * A connection that Postgres ends as soon as it is there has no listener yet: pg has taken its own off, and TypeORM adds
 * its one later. Its error would end the process. The query that comes next is told as well.
 */
function survive(client: PoolClient): void {
  client.on('error', () => undefined);
}

/** Takes connections from the application's pool. */
export class Connections {
  private readonly pool: Pool;

  constructor(
    dataSource: DataSource,
    private readonly ambient: Ambient,
    private readonly settings: SessionSettings,
  ) {
    this.pool = applicationPool(dataSource) as unknown as Pool;
    if (!this.pool.listeners('connect').includes(survive)) this.pool.on('connect', survive);
  }

  /** How many there can be. */
  get max(): number {
    return this.pool.options.max;
  }

  /** @throws StoreUnavailableError, as OverloadedError where others hold all connections */
  take(): Promise<Session> {
    const { timeout } = this.settings;
    const queryRunner = this.ambient.queryRunner();
    return new Promise((resolve, reject) => {
      let expired = false;
      const deadline: Deadline = {
        dueAt: performance.now() + timeout,
        expire: () => {
          expired = true;
          reject(this.refusal(new DeadlineError('the wait for a connection', timeout)));
        },
      };
      deadlines.add(deadline);
      (queryRunner.connect() as Promise<PoolClient>).then(
        (client) => {
          deadlines.delete(deadline);
          if (expired) void queryRunner.release();
          else resolve(new Session(queryRunner, client, this.settings));
        },
        (error: unknown) => {
          deadlines.delete(deadline);
          void queryRunner.release();
          reject(this.refusal(error));
        },
      );
    });
  }

  private refusal(error: unknown): StoreUnavailableError {
    const { totalCount, idleCount } = this.pool;
    if (totalCount >= this.max && idleCount === 0)
      return new OverloadedError('postgres', 'begin', 'transactions_late');
    return new StoreUnavailableError('postgres', 'begin', error, false);
  }
}
