import type { RecordId } from '../core/record';
import type { BatchStatement } from '../store/postgres/batch-statements';
import { statementBatcher, TOGETHER } from '../store/postgres/batches';
import type { Batcher } from '../store/batching/batcher';
import type { PostgresConnection } from '../store/postgres/connection/postgres.connection';
import { ARE_FREE } from './statements';

/** The advisory lock of a key, as Postgres takes it. Keys that share one by chance only wait for each other. */
export function lockOf({ hash }: RecordId): string {
  return BigInt.asIntN(64, BigInt(`0x${hash.slice(0, 16)}`)).toString();
}

/** Asks whether transactions of keys are open: for all keys of a turn by one statement. */
export class Locks {
  private readonly batcher: Batcher<string, boolean>;

  /** @param connection of the module's own, as the application's pool may be exhausted */
  constructor(connection: PostgresConnection) {
    const statementFor = (locks: readonly string[]): BatchStatement<boolean> => ({
      text: ARE_FREE,
      values: [`{${locks.join()}}`],
      resultsOf: (rows: { free: boolean }[]) => rows.map(({ free }) => !free),
    });
    this.batcher = statementBatcher(connection, 'find', statementFor, TOGETHER);
  }

  /** @throws StoreUnavailableError */
  isHeld(id: RecordId): Promise<boolean> {
    return new Promise((resolve, reject) => this.batcher.add(lockOf(id), resolve, reject));
  }
}
