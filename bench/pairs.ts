import {
  batchOf,
  Figures,
  perResponse,
  spread,
  type CellResult,
  type Results,
  type Turn,
  type Used,
} from './results';
import { nameBefore } from './subjects';
import { shown, table } from './tables';

interface Measure {
  readonly name: string;
  readonly digits: number;
  readonly of: (own: Turn, bare: Turn, cell: CellResult) => number;
}

/** @param factor from the unit that is measured to the one that is shown */
function used(what: keyof Used, factor: number): Measure['of'] {
  return (own) => perResponse(own, what) * factor;
}

/** The same beyond bare's in the same round. */
function added(what: keyof Used, factor: number): Measure['of'] {
  return (own, bare) => (perResponse(own, what) - perResponse(bare, what)) * factor;
}

const MEASURES: readonly Measure[] = [
  { name: 'requests/s', digits: 0, of: ({ perSecond }) => perSecond },
  { name: 'added p50 ms', digits: 3, of: (own, bare) => own.p50 - bare.p50 },
  { name: 'added p99 ms', digits: 2, of: (own, bare) => own.p99 - bare.p99 },
  { name: 'added own CPU µs', digits: 0, of: added('subjectCpu', 1_000) },
  { name: 'added CPU of Postgres µs', digits: 0, of: added('postgresCpu', 1_000) },
  { name: 'added CPU of Redis µs', digits: 0, of: added('redisCpu', 1_000) },
  { name: 'allocated kB', digits: 1, of: used('allocated', 1 / 1_000) },
  { name: 'GC µs', digits: 1, of: used('gcMs', 1_000) },
  { name: 'mean batch', digits: 1, of: (own, _bare, cell) => batchOf(cell, own) },
];

/** What changed from before to now, where both were measured: rounds are compared with themselves. */
export function pairs(results: Results): string {
  const tables = results.cells.flatMap((cell) =>
    Object.keys(cell.turns)
      .filter((name) => nameBefore(name) in cell.turns)
      .map((name) => {
        const { workload, connections, effect } = cell;
        const handler = effect === 'row' ? ', handler that writes a row' : '';
        const title = `\`${name}\`, ${workload}, ${connections} connection${connections > 1 ? 's' : ''}${handler}`;
        return `#### ${title}\n\n${pairTable(results, cell, name)}`;
      }),
  );
  return tables.length > 0 ? ['### Before and after, in pairs', ...tables].join('\n\n') : '';
}

function pairTable(results: Results, cell: CellResult, name: string): string {
  const [after, before] = [name, nameBefore(name)].map((each) => Figures.of(results, cell, each));
  const rows = MEASURES.flatMap(({ name: what, digits, of }) => {
    const [now, then] = [after, before].map((own) =>
      own ? own.rounds((turn, bare) => of(turn, bare, cell)) : [],
    ) as [readonly number[], readonly number[]];
    const { median, min, max } = spread(now.map((value, round) => value - (then[round] ?? NaN)));
    if (Number.isNaN(median)) return [];
    const difference = `${shown(median, digits)} (${shown(min, digits)} to ${shown(max, digits)})`;
    return [[what, shown(spread(then).median, digits), shown(spread(now).median, digits), difference]];
  });
  return table(['', 'before', 'after', 'difference of one round'], rows);
}
