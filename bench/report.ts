import { goalsOf } from './goals';
import { DUPLICATES } from './plan';
import {
  Figures,
  productsIn,
  spread,
  type CellResult,
  type Results,
  type Spread,
  type StormResult,
} from './results';

/** All results as Markdown. */
export function markdown(results: Results): string {
  const parts = [
    `Measured on ${results.measured}: ${results.machine}${results.pinned ? '' : '; nothing was pinned to a core'}. ` +
      `Medians of ${results.rounds} rounds of ${results.seconds} s, in brackets the least and the most.`,
    goals(results),
    ...results.cells.map((cell) => `### ${titleOf(cell)}\n\n${cellTable(results, cell)}`),
    ...results.storms.map((storm) => `### ${stormTitle(storm)}\n\n${stormTable(storm)}`),
    ...(Object.keys(results.inFlight).length > 0
      ? [`### Memory of a request in flight\n\n${inFlightTable(results)}`]
      : []),
  ];
  return parts.filter((part) => part !== '').join('\n\n');
}

function goals(results: Results): string {
  const rows = goalsOf(results).map(({ goal, figure, floor = '', reached }) => [
    goal,
    figure,
    floor,
    reached ? 'yes' : '**no**',
  ]);
  return rows.length > 0 ? table(['goal', 'figure', 'floor', 'reached'], rows) : '';
}

/** For README: the figures that most will look for. */
export function summary(results: Results): string {
  const at = (workload: string, connections: number): CellResult | undefined =>
    results.cells.find((each) => each.workload === workload && each.connections === connections);
  const columns = [at('first requests', 32), at('replays', 32), at('first requests', 1), at('replays', 1)];
  const names = productsIn(results, columns[0]);
  const rows = names.map((name) => {
    const [first, replay, firstAlone, replayAlone] = columns.map(
      (cell) => cell && Figures.of(results, cell, name),
    );
    const ratios = [first, replay].map((each) => (each ? noted(each, each.ratio.median.toFixed(2)) : ''));
    const added = [firstAlone, replayAlone].map((each) =>
      each ? noted(each, each.added.median.toFixed(2)) : '',
    );
    return [name, ...ratios, ...added];
  });
  return table(
    ['', 'first requests, of bare', 'replays, of bare', 'a first request adds, ms', 'a replay adds, ms'],
    rows,
  );
}

function titleOf({ workload, connections, bytes, turns }: CellResult): string {
  const size = bytes >= 1024 ? `${bytes / 1024} KiB` : `${bytes} bytes`;
  const heading = workload === 'replays' ? 'Replays' : 'First requests';
  const platform = Object.keys(turns).every((name) => name.endsWith('Fastify')) ? ', Fastify' : '';
  return `${heading}, ${connections} connection${connections > 1 ? 's' : ''}, ${size}${platform}`;
}

function cellTable(results: Results, cell: CellResult): string {
  const rows = Object.keys(cell.turns).flatMap((name) => {
    const own = Figures.of(results, cell, name);
    if (!own) return [];
    const latencies = (['p50', 'p95', 'p99'] as const).map((share) => own.latency(share).median.toFixed(2));
    const cpu = (['subjectCpu', 'postgresCpu', 'redisCpu'] as const).map((what) =>
      (own.used(what).median * 1000).toFixed(0),
    );
    const redis = (['redisCommands', 'redisReads'] as const).map((what) => own.used(what).median.toFixed(1));
    return [
      [
        name,
        noted(own, own.perSecond.median.toFixed(0)),
        ranged(own.ratio, 2),
        latencies.join(' / '),
        ranged(own.added, 2),
        cpu.join(' / '),
        own.used('walBytes').median.toFixed(0),
        redis.join(' / '),
      ],
    ];
  });
  const headings = ['', 'requests/s', 'of bare', 'p50 / p95 / p99 ms', 'added p50 ms'];
  return table([...headings, 'CPU µs: own / Postgres / Redis', 'WAL bytes', 'Redis commands / reads'], rows);
}

/** A figure with errors, or of executions that should not have been, is none. */
function noted(own: Figures, figure: string): string {
  if (own.failures > 0) return `failed: ${own.failures} errors (${figure})`;
  return own.once ? figure : `not deduplicated (${figure})`;
}

function stormTitle({ wait }: StormResult): string {
  return `${DUPLICATES} requests of one key at once, handler of ${wait} ms`;
}

function stormTable({ turns }: StormResult): string {
  const rows = Object.entries(turns).map(([name, own]) => {
    const statuses = [...new Set(own.flatMap((turn) => Object.keys(turn.statuses)))].sort().map((status) => {
      const counts = spread(own.map((turn) => turn.statuses[Number(status)] ?? 0));
      return `${counts.median.toFixed(0)} × ${status}`;
    });
    return [
      name,
      ranged(spread(own.map(({ ms }) => ms)), 0),
      spread(own.map(({ single }) => single)).median.toFixed(1),
      ranged(spread(own.map(({ executions }) => executions)), 0),
      statuses.join(', '),
    ];
  });
  return table(['', 'last answer, ms', 'one request alone, ms', 'executions', 'answers'], rows);
}

function inFlightTable({ inFlight, bareOf }: Results): string {
  const rows = Object.entries(inFlight).map(([name, own]) => {
    const bare = inFlight[bareOf[name] ?? ''] ?? own;
    const kib = (bytes: number): string => (bytes / 1024).toFixed(1);
    return [name, kib(own.heap), kib(own.heap - bare.heap), kib(own.rss)];
  });
  return table(['', 'heap, KiB', 'beyond bare, KiB', 'resident, KiB'], rows);
}

function ranged({ median, min, max }: Spread, digits: number): string {
  const text = median.toFixed(digits);
  return min === max ? text : `${text} (${min.toFixed(digits)}–${max.toFixed(digits)})`;
}

function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [headings, headings.map(() => '---'), ...rows];
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
