import { Logger } from '@nestjs/common';
import { performance } from 'node:perf_hooks';
import type { Client } from 'pg';

/**
 * Milliseconds after which the plans of prepared statements are made anew. Postgres keeps the plan of a small table,
 * which reads all of it, until the next ANALYZE, however large it grows meanwhile.
 */
const PLANS_LAST = 1_000;

/** Whether statements are prepared, and when their plans are to be made anew. */
export class Plans {
  private readonly logger = new Logger('Idempotency');
  /** Monotonic time (ms) at which the plans of a connection's prepared statements were last dropped. */
  private readonly plannedAt = new WeakMap<Client, number>();

  constructor(private prepares: boolean) {}

  get arePrepared(): boolean {
    return this.prepares;
  }

  /** True once in a while for each connection that has prepared something. */
  areOld(client: Client): boolean {
    const now = performance.now();
    const plannedAt = this.plannedAt.get(client);
    if (plannedAt !== undefined && now - plannedAt < PLANS_LAST) return false;
    this.plannedAt.set(client, now);
    return plannedAt !== undefined;
  }

  stopPreparing(): void {
    if (!this.prepares) return;
    this.prepares = false;
    this.logger.log(
      'Postgres is reached through a pooler that loses prepared statements: from now on each statement is sent and ' +
        'planned anew. `postgres.preparedStatements: false` does so from the start',
    );
  }
}
