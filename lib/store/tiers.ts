import type { IdempotencyStore } from '../core/store';
import type { PendingWrites } from './pending-writes';
import type { RecordCache } from './record-cache';
import type { StoreMonitor } from './store-monitor';

/** The stores of one application, by what they are for. */
export interface Tiers {
  readonly name: 'postgres' | 'redis';
  /** The only store whose answer may let a handler run. */
  readonly arbiter: IdempotencyStore;
  readonly monitor: StoreMonitor;
  /** May be empty, stale or away. Undefined where Redis is the arbiter, or disabled. */
  readonly cache: RecordCache | undefined;
  /** Milliseconds for which an outcome that the arbiter could not take is tried again. */
  readonly retention: number;
  readonly pending: PendingWrites;
}
