import { Logger } from '@nestjs/common';
import { performance } from 'node:perf_hooks';
import { StoreUnavailableError } from '../core/errors';
import type { Tier as TierName } from '../core/record';
import type { IdempotencyMetrics } from '../observability/metrics';

const LABEL: Record<TierName, string> = { redis: 'Redis', postgres: 'Postgres' };

/**
 * Through here goes every operation on a tier: it is timed and its failure counted. Postgres is taken for down as
 * soon as it cannot be asked, and a change is logged once; of Redis its breaker judges, and says so itself.
 */
export class TierGate {
  private readonly logger = new Logger('Idempotency');
  private up = true;

  constructor(
    readonly name: TierName,
    private readonly metrics: IdempotencyMetrics,
  ) {
    if (name === 'postgres') metrics.tierUp(name, true);
  }

  async ask<T>(operation: string, call: () => Promise<T>): Promise<T> {
    const startedAt = performance.now();
    try {
      const answer = await call();
      this.report(true);
      return answer;
    } catch (error) {
      this.metrics.storeError(this.name);
      if (error instanceof StoreUnavailableError) this.report(false, error);
      else this.logger.error(`${LABEL[this.name]} refused to ${operation}`, stackOf(error));
      throw error;
    } finally {
      this.metrics.storeOperation(this.name, operation, (performance.now() - startedAt) / 1000);
    }
  }

  private report(up: boolean, error?: StoreUnavailableError): void {
    if (up === this.up || this.name === 'redis') return;
    this.up = up;
    this.metrics.tierUp(this.name, up);
    if (up) this.logger.log('Postgres answers again');
    else this.logger.warn(`${error?.message}; new keys are refused or run unprotected until it answers`);
  }
}

function stackOf(error: unknown): string | undefined {
  return error instanceof Error ? error.stack : String(error);
}
