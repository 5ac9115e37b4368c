import type { IdempotencyContext } from '../core/context';

/** What a handler in the transaction mode can know of its claim, and do with its transaction. */
export interface TransactionContext extends IdempotencyContext {
  // The declaration has to hold where TypeORM is not installed, which the compiler is told in the comment's last line.
  // eslint-disable-next-line @typescript-eslint/ban-ts-comment
  /**
   * That of the transaction. Injected repositories use it as well.
   * @ts-ignore */
  readonly manager: import('typeorm').EntityManager;
}
