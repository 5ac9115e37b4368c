import type { RecordId } from '../core/record';

/** The advisory lock of a key, as Postgres takes it. Keys that share one by chance only wait for each other. */
export function lockOf({ hash }: RecordId): string {
  return BigInt.asIntN(64, BigInt(`0x${hash.slice(0, 16)}`)).toString();
}
