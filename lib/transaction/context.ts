import type { EntityManager } from 'typeorm';
import type { IdempotencyContext } from '../core/context';

/** What a handler in the transaction mode can know of its claim, and do with its transaction. */
export interface TransactionContext extends IdempotencyContext {
  /** That of the transaction. Injected repositories use it as well. */
  readonly manager: EntityManager;
}
