import type { RecordBatch } from '../../lib/core/record-directory';
import { PostgresDirectory } from '../../lib/store/postgres/directory';

/**
 * Makes a batch of each record that a walk finds. Ends with `jest.restoreAllMocks()`.
 * @param between what happens between two of them
 */
export function cutWalk(between: () => void = () => undefined): void {
  const { walk } = PostgresDirectory.prototype;
  jest.spyOn(PostgresDirectory.prototype, 'walk').mockImplementation(async function* (
    this: PostgresDirectory,
    selection,
  ) {
    const { records } = (await walk.call(this, selection).next()).value as RecordBatch;
    for (const [index, record] of records.entries()) {
      if (index > 0) between();
      yield { records: [record], progress: (index + 1) / records.length };
    }
  });
}
