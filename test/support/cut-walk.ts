import type { RecordBatch } from '../../lib/core/record-directory';
import { PostgresDirectory } from '../../lib/store/postgres/directory';

/**
 * Makes two batches of what a walk finds first: one record, and the others.
 * @param between what happens between them. Ends with `jest.restoreAllMocks()`
 */
export function cutWalk(between: () => void): void {
  const { walk } = PostgresDirectory.prototype;
  jest.spyOn(PostgresDirectory.prototype, 'walk').mockImplementation(async function* (
    this: PostgresDirectory,
    selection,
  ) {
    const { records } = (await walk.call(this, selection).next()).value as RecordBatch;
    yield { records: records.slice(0, 1), progress: 0.5 };
    between();
    yield { records: records.slice(1), progress: 1 };
  });
}
