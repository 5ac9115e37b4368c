import { SMALL, type Workload } from './plan';
import { Figures, productsIn, type CellResult, type Results, type Spread } from './results';

interface Bar {
  readonly label: string;
  /** One for each series; undefined where there is no figure, or none that counts. */
  readonly values: readonly (Spread | undefined)[];
}

interface Chart {
  readonly title: string;
  readonly series: readonly string[];
  readonly bars: readonly Bar[];
  readonly digits: number;
  /** Drawn as a line to compare with. */
  readonly mark?: number;
}

const WORKLOADS: readonly Workload[] = ['first requests', 'replays'];

/** SVG by file name. */
export function chartsOf(results: Results): Readonly<Record<string, string>> {
  return {
    'performance-throughput.svg': draw({
      title: 'Requests per second as a share of the same application without protection, 32 connections',
      series: WORKLOADS,
      bars: barsOf(results, 32, (figures) => figures.ratio),
      digits: 2,
      mark: 1,
    }),
    'performance-latency.svg': draw({
      title: 'Milliseconds that protection adds to the median latency, 1 connection',
      series: WORKLOADS,
      bars: barsOf(results, 1, (figures) => figures.added),
      digits: 2,
    }),
  };
}

function barsOf(results: Results, connections: number, figure: (own: Figures) => Spread): Bar[] {
  const cells = WORKLOADS.map((workload) =>
    results.cells.find(
      (cell) => cell.workload === workload && cell.connections === connections && cell.bytes === SMALL,
    ),
  );
  const names = productsIn(results, cells[0]);
  const value = (cell: CellResult | undefined, name: string): Spread | undefined => {
    const own = cell && Figures.of(results, cell, name);
    return own?.once && own.failures === 0 ? figure(own) : undefined;
  };
  return names.map((label) => ({ label, values: cells.map((cell) => value(cell, label)) }));
}

const WIDTH = 760;
const LEFT = 190;
const RIGHT = 60;
const TOP = 62;
const BAR = 13;
const GAP = 12;

/** Colours that can be told apart without colour vision, on light and dark grounds. */
const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600 }
  .s0 { fill: #0969da } .s1 { fill: #d98a00 }
  .line { stroke: #8c959f } .range { stroke: #1f2328; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .s0 { fill: #58a6ff } .s1 { fill: #e3b341 } .range { stroke: #e6edf3 }
  }`;

/** Bars lie, so that names can be read; a line shows the least and the most of all rounds. */
function draw({ title, series, bars, digits, mark }: Chart): string {
  const most = Math.max(mark ?? 0, ...bars.flatMap(({ values }) => values.map((value) => value?.max ?? 0)));
  const x = (value: number): number => LEFT + (Math.max(0, value) / most) * (WIDTH - LEFT - RIGHT);
  const group = series.length * BAR + GAP;
  const height = TOP + bars.length * group + GAP;
  const parts = bars.flatMap(({ label, values }, index) => {
    const top = TOP + index * group;
    const name = text(LEFT - 8, top + (series.length * BAR) / 2 + 4, label, 'text-anchor="end"');
    return [name, ...values.map((value, which) => bar(value, which, top + which * BAR))];
  });
  function bar(value: Spread | undefined, which: number, y: number): string {
    if (!value) return text(LEFT + 4, y + BAR - 2, 'none: errors or duplicates executed', '');
    const { median, min, max } = value;
    const middle = y + BAR / 2;
    return [
      `<rect class="s${which}" x="${LEFT}" y="${y + 1}" width="${fixed(x(median) - LEFT)}" height="${BAR - 2}"/>`,
      `<line class="range" x1="${fixed(x(min))}" x2="${fixed(x(max))}" y1="${middle}" y2="${middle}"/>`,
      text(x(max) + 6, y + BAR - 2, median.toFixed(digits), ''),
    ].join('');
  }
  const legend = series.map((name, which) => {
    const left = LEFT + which * 140;
    return `<rect class="s${which}" x="${left}" y="34" width="12" height="12"/>${text(left + 18, 45, name, '')}`;
  });
  const line =
    mark === undefined
      ? ''
      : `<line class="line" x1="${fixed(x(mark))}" x2="${fixed(x(mark))}" y1="${TOP - 8}" y2="${height - GAP}"/>`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img">`,
    `<title>${escaped(title)}</title><style>${STYLE}</style>`,
    text(0, 18, title, 'class="title"'),
    ...legend,
    line,
    ...parts,
    '</svg>\n',
  ].join('\n');
}

function text(x: number, y: number, content: string, attributes: string): string {
  return `<text x="${fixed(x)}" y="${fixed(y)}" ${attributes}>${escaped(content)}</text>`;
}

function fixed(value: number): string {
  return value.toFixed(1);
}

function escaped(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
