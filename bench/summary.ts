import { CPU, figuresAt, productsIn, type Figures, type LoadAt, type Results } from './results';
import { micros, noted, ranged, shown, table } from './tables';

const at = (
  workload: LoadAt['workload'],
  connections: number,
  effect: LoadAt['effect'] = 'none',
): LoadAt => ({
  workload,
  effect,
  connections,
});

/** For the comparison: the figures that most will look for, each beyond those of the same application without protection. */
export function summary(results: Results): string {
  const rows = productsIn(results).map((name) => {
    const of = (load: LoadAt, figure: (own: Figures) => string): string => {
      const own = figuresAt(results, load, name);
      return own ? noted(own, figure(own)) : '';
    };
    const cpu = (own: Figures): string => CPU.map((what) => micros(own.addedUse(what))).join(' / ');
    const both = (own: Figures): string =>
      (['p50', 'p99'] as const).map((share) => shown(own.added(share).median, 2)).join(' / ');
    const median = (own: Figures): string => shown(own.added('p50').median, 2);
    return [
      name,
      of(at('first requests', 32), cpu),
      of(at('first requests', 1), median),
      of(at('first requests', 32), both),
      of(at('replays', 32), cpu),
      of(at('replays', 1), median),
      of(at('first requests', 1, 'row'), median),
      of(at('first requests', 32, 'row'), (own) => ranged(own.ratio, 2)),
    ];
  });
  const headings = [
    '',
    'first request: CPU µs',
    'ms alone',
    'ms at 32, p50 / p99',
    'replay: CPU µs',
    'ms alone',
    'handler that writes a row: ms alone',
    'of bare',
  ];
  const empty = headings.map((_, column) => rows.every((row) => row[column] === ''));
  const kept = (row: readonly string[]): string[] =>
    row.filter((_, column) => column === 0 || !empty[column]);
  return table(kept(headings), rows.map(kept));
}

/** For README: what a lone request pays, in one sentence. */
export function price(results: Results): string {
  const added = (workload: LoadAt['workload'], name: string): string => {
    const own = figuresAt(results, at(workload, 1), name);
    return own ? noted(own, `${shown(own.added('p50').median, 1)} ms`) : 'not measured';
  };
  const rival = '@node-idempotency/nestjs';
  return [
    `At one request at a time, protection adds ${added('first requests', 'durable')} to the median of a first request,`,
    `and ${added('replays', 'durable')} to that of a replay. \`${rival}\`, which locks a key in Redis, adds`,
    `${added('first requests', rival)} and ${added('replays', rival)}.`,
    `Run: \`npm run bench\` of ${results.measured} on ${results.machine}.`,
  ].join(' ');
}
