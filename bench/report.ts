import { hasRowChart, ROW_CHART, ROW_TITLE } from './chart';
import { goalsOf } from './goals';
import { DUPLICATES } from './plan';
import { pairs } from './pairs';
import { kilo, micros, noted, ranged, shown, table } from './tables';
import { CPU, Figures, spread, type CellResult, type Results, type StormResult } from './results';

/** All results as Markdown. */
export function markdown(results: Results): string {
  const parts = [
    `Measured on ${results.measured}: ${results.machine}${results.pinned ? '' : '; nothing was pinned to a core'}. ` +
      `Medians of ${results.rounds} rounds of ${results.seconds} s, in brackets the least and the most.`,
    goals(results),
    hasRowChart(results) ? `![${ROW_TITLE}](${ROW_CHART})` : '',
    pairs(results),
    ...results.cells.map((cell) => `### ${titleOf(cell)}\n\n${cellTables(results, cell)}`),
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

function titleOf({ workload, effect, connections, bytes, turns }: CellResult): string {
  const size = bytes >= 1024 ? `${bytes / 1024} KiB` : `${bytes} bytes`;
  const heading = workload === 'replays' ? 'Replays' : 'First requests';
  const handler = effect === 'row' ? ', handler that writes a row' : '';
  const platform = Object.keys(turns).every((name) => name.endsWith('Fastify')) ? ', Fastify' : '';
  return `${heading}, ${connections} connection${connections > 1 ? 's' : ''}, ${size}${handler}${platform}`;
}

/** Two tables: what callers see, and what it takes. */
function cellTables(results: Results, cell: CellResult): string {
  const all = Object.keys(cell.turns).flatMap((name) => {
    const own = Figures.of(results, cell, name);
    return own ? [[name, own] as const] : [];
  });
  const seen = all.map(([name, own]) => {
    const latencies = (['p50', 'p95', 'p99'] as const).map((share) => shown(own.latency(share).median, 2));
    return [
      name,
      noted(own, shown(own.perSecond.median, 0)),
      ranged(own.ratio, 2),
      latencies.join(' / '),
      ranged(own.added('p50'), 2),
      ranged(own.added('p99'), 2),
    ];
  });
  const taken = all.map(([name, own]) => [
    name,
    CPU.map((what) => micros(own.used(what))).join(' / '),
    CPU.map((what) => micros(own.addedUse(what))).join(' / '),
    kilo(own.used('allocated')),
    micros(own.used('gcMs')),
    shown(own.batch.median, 1),
    shown(own.used('walBytes').median, 0),
    (['redisCommands', 'redisReads'] as const).map((what) => shown(own.used(what).median, 1)).join(' / '),
  ]);
  return [
    table(['', 'requests/s', 'of bare', 'p50 / p95 / p99 ms', 'added p50 ms', 'added p99 ms'], seen),
    table(
      [
        ...['', 'CPU µs: own / Postgres / Redis', 'added CPU µs: own / Postgres / Redis', 'allocated kB'],
        ...['GC µs', 'mean batch', 'WAL bytes', 'Redis commands / reads'],
      ],
      taken,
    ),
  ].join('\n\n');
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
