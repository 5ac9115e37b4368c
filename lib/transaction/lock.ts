import type { RecordId } from '../core/record';
import type { BatchStatement } from '../store/postgres/batch-statements';
import { statementBatcher, TOGETHER } from '../store/postgres/batches';
import type { Batcher } from '../store/batching/batcher';
import type { PostgresConnection } from '../store/postgres/connection/postgres.connection';
import { ARE_FREE } from './statements';

/** Of a lock: 64 bits. */
const DIGITS = 16;

/** The advisory locks of a key, as Postgres takes them. Keys that share one by chance only wait for each other. */
export interface KeyLocks {
  /** One transaction has it, or none. */
  readonly key: string;
  /** Shows others that `key` is held: they ask for this one, so that they are never in the way of a begin. */
  readonly held: string;
}

export function locksOf({ hash }: RecordId): KeyLocks {
  const at = (place: number): string =>
    BigInt.asIntN(64, BigInt(`0x${hash.slice(place, place + DIGITS)}`)).toString();
  return { key: at(0), held: at(DIGITS) };
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
    return new Promise((resolve, reject) => this.batcher.add(locksOf(id).held, resolve, reject));
  }
}
