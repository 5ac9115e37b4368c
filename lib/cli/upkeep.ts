import { LARGEST_CLEANUP } from '../options/specification/postgres';
import { ExpiredRecordCleanup } from '../store/postgres/cleanup';
import { EXIT, UsageError, type ExitCode } from './exit';
import { bytes, seconds } from '../admin/readable';
import { hitRateText, lastHour, type PrometheusOptions } from './hit-rate';
import { lines, table } from './output';
import { withSession } from './session';
import type { CommonOptions } from './settings';
import { terminal } from './terminal';

export interface StatsCommand extends CommonOptions, PrometheusOptions {
  readonly wholeTable?: boolean;
}

export async function stats(options: StatsCommand): Promise<ExitCode> {
  const { wholeTable = false } = options;
  return withSession(options, async ({ admin }) => {
    const [found, hour] = await Promise.all([admin.stats({ wholeTable }), lastHour(options)]);
    if (options.json) {
      terminal.printJson({ ...found, lastHour: hour });
      return EXIT.done;
    }
    const { byState, byRoute, estimated, oldestOrphan, lastCleanup, oldestExpired } = found;
    terminal.print(
      lines({
        rows: estimated ? `about ${found.rows}` : found.rows,
        'size of the table': bytes(found.bytes),
        ...byState,
        'oldest orphan': oldestOrphan === undefined ? 'none' : seconds(oldestOrphan),
        'last cleanup': lastCleanup === undefined ? 'never' : `${seconds(lastCleanup)} ago`,
        'oldest expired row': oldestExpired === undefined ? 'none' : seconds(oldestExpired),
        'hit rate': hitRateText(hour),
      }),
    );
    terminal.print(
      `\n${table(
        ['ROWS', 'ROUTE'],
        byRoute.map(({ route, rows }) => [String(rows), route]),
      )}`,
    );
    return EXIT.done;
  });
}

export interface CleanupCommand extends CommonOptions {
  readonly batchSize: string;
}

/** Deletes expired records; while an instance of the application does so, there is nothing to do. */
export async function cleanup(options: CleanupCommand): Promise<ExitCode> {
  const batchSize = Number(options.batchSize);
  if (!Number.isInteger(batchSize) || batchSize < 1 || batchSize > LARGEST_CLEANUP)
    throw new UsageError('--batch-size must be a whole number from 1 to 100,000.');
  return withSession(options, async ({ connection, names }) => {
    const expired = new ExpiredRecordCleanup(connection, names, { interval: 0, batchSize });
    const deleted = await expired.runOnce((total) => terminal.progress(`${total} expired records deleted`));
    terminal.progress('');
    if (options.json) terminal.printJson({ deleted });
    else terminal.print(`${deleted} expired records deleted`);
    return EXIT.done;
  });
}
