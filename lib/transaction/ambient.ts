import type { DataSource, QueryRunner } from 'typeorm';
import { Hook } from './hook';
import { isCalledIn, transactionsOf, within } from './frames';
import { JointTransaction, type AmbientTransaction } from './joint-transaction';

export { outside } from './frames';
export type { AmbientTransaction, TransactionEvent } from './joint-transaction';

/** Lets all that asks a DataSource for a connection within a transaction join it. */
export class Ambient {
  private readonly hook: Hook;

  constructor(private readonly dataSource: DataSource) {
    this.hook = Hook.on(dataSource);
  }

  /** One that joins nothing. */
  queryRunner(): QueryRunner {
    return this.hook.createQueryRunner();
  }

  /** @param queryRunner on whose connection the transaction is already open */
  enter<T>(queryRunner: QueryRunner, work: (transaction: AmbientTransaction) => T): T {
    const transaction = new JointTransaction(this.dataSource, queryRunner, this.hook.createQueryRunner);
    return within({ transaction, level: transaction.root }, {}, () => work(transaction));
  }

  /** How many open transactions the caller is in, one within the other: each keeps its connection until it returns. */
  get depth(): number {
    return transactionsOf(({ dataSource, isOpen }) => isOpen && dataSource === this.dataSource).length;
  }

  /** Whether a transaction that is open may wait for the caller: it is in that one, or was when it left it. */
  get isCalledInside(): boolean {
    return isCalledIn(({ dataSource, isOpen }) => isOpen && dataSource === this.dataSource);
  }
}
