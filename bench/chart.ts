import { CPU, figuresAt, productsIn, type Figures, type LoadAt, type Results, type Spread } from './results';

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
  /** Whether the series are parts of one bar, or each has its own. */
  readonly stacked: boolean;
}

const FIRST_AT_32: LoadAt = { workload: 'first requests', effect: 'none', connections: 32 };
const ALONE = (['first requests', 'replays'] as const).map((workload): LoadAt => ({
  workload,
  effect: 'none',
  connections: 1,
}));

const WITH_ROW = [1, 32].map((connections): LoadAt => ({
  workload: 'first requests',
  effect: 'row',
  connections,
}));

/** SVG by file name. */
export function chartsOf(results: Results): Readonly<Record<string, string>> {
  return {
    'performance-cpu.svg': draw({
      title: 'Microseconds of CPU that protection adds to a first request, 32 connections',
      series: ['application', 'Postgres', 'Redis'],
      bars: barsOf(results, [FIRST_AT_32], (name) => {
        const own = counted(results, FIRST_AT_32, name);
        return CPU.map((what) => own && scaled(own.addedUse(what), 1_000));
      }),
      digits: 0,
      stacked: true,
    }),
    'performance-latency.svg': draw({
      title: 'Milliseconds that protection adds to the median latency, 1 connection',
      series: ALONE.map(({ workload }) => workload),
      bars: barsOf(results, ALONE, (name) => ALONE.map((load) => counted(results, load, name)?.added('p50'))),
      digits: 2,
      stacked: false,
    }),
    ...(hasRowChart(results) ? { [ROW_CHART]: rowChart(results) } : {}),
  };
}

export const ROW_CHART = 'performance-row.svg';
export const ROW_TITLE =
  'Milliseconds that protection adds to the median latency of a handler that writes a row';

/** Older results, and some plans, have no such handler. */
export function hasRowChart(results: Results): boolean {
  return WITH_ROW.some((load) => figuresAt(results, load, 'durable'));
}

function rowChart(results: Results): string {
  return draw({
    title: ROW_TITLE,
    series: WITH_ROW.map(({ connections }) => `${connections} connection${connections > 1 ? 's' : ''}`),
    bars: barsOf(results, WITH_ROW, (name) =>
      WITH_ROW.map((load) => counted(results, load, name)?.added('p50')),
    ),
    digits: 2,
    stacked: false,
  });
}

/** One for each product that had one of these loads. */
function barsOf(results: Results, loads: readonly LoadAt[], values: (name: string) => Bar['values']): Bar[] {
  return productsIn(results)
    .filter((name) => loads.some((load) => figuresAt(results, load, name)))
    .map((label) => ({ label, values: values(label) }));
}

/** None where there were errors, or executions that should not have been. */
function counted(results: Results, load: LoadAt, name: string): Figures | undefined {
  const own = figuresAt(results, load, name);
  return own?.once && own.failures === 0 ? own : undefined;
}

function scaled({ median, min, max }: Spread, factor: number): Spread {
  return { median: median * factor, min: min * factor, max: max * factor };
}

const WIDTH = 760;
const LEFT = 190;
const RIGHT = 60;
const TOP = 62;
const BAR = 13;
const GAP = 12;

/** Colours that differ without colour vision, on light and dark grounds. */
const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600 }
  .s0 { fill: #0969da } .s1 { fill: #d98a00 } .s2 { fill: #8c959f }
  .range { stroke: #1f2328; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .s0 { fill: #58a6ff } .s1 { fill: #e3b341 } .s2 { fill: #b1bac4 }
    .range { stroke: #e6edf3 }
  }`;

/** Bars lie, so that names can be read. */
function draw(chart: Chart): string {
  const { title, series, bars, stacked } = chart;
  const lines = stacked ? 1 : series.length;
  const most = Math.max(...bars.map(({ values }) => extent(values, stacked)));
  const x = (value: number): number => LEFT + (Math.max(0, value) / most) * (WIDTH - LEFT - RIGHT);
  const group = lines * BAR + GAP;
  const height = TOP + bars.length * group + GAP;
  const parts = bars.flatMap(({ label, values }, index) => {
    const top = TOP + index * group;
    const name = text(LEFT - 8, top + (lines * BAR) / 2 + 4, label, 'text-anchor="end"');
    return [name, stacked ? stack(values, top, x, chart) : apart(values, top, x, chart)];
  });
  const legend = series.map((name, which) => {
    const left = LEFT + which * 140;
    return `<rect class="s${which}" x="${left}" y="34" width="12" height="12"/>${text(left + 18, 45, name, '')}`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img">`,
    `<title>${escaped(title)}</title><style>${STYLE}</style>`,
    text(0, 18, title, 'class="title"'),
    ...legend,
    ...parts,
    '</svg>\n',
  ].join('\n');
}

/** What the longest bar has to show. */
function extent(values: Bar['values'], stacked: boolean): number {
  const known = values.flatMap((value) => value ?? []);
  return stacked ? sumOf(known) : Math.max(...known.map(({ max }) => max));
}

/** Less than nothing was added: noise, which is drawn as nothing. */
function sumOf(values: readonly Spread[]): number {
  return values.reduce((sum, { median }) => sum + Math.max(0, median), 0);
}

type Scale = (value: number) => number;

/** Medians on end, and their sum. */
function stack(values: Bar['values'], y: number, x: Scale, { digits }: Chart): string {
  const known = values.flatMap((value) => value ?? []);
  if (known.length === 0) return none(y);
  const rects = known.map(({ median }, which) => {
    const from = sumOf(known.slice(0, which));
    return rect(which, x(from), x(from + Math.max(0, median)), y);
  });
  return [...rects, text(x(sumOf(known)) + 6, y + BAR - 2, sumOf(known).toFixed(digits), '')].join('');
}

/** One below the other; a line shows the least and the most of all rounds. */
function apart(values: Bar['values'], top: number, x: Scale, { digits }: Chart): string {
  const bars = values.map((value, which) => {
    const y = top + which * BAR;
    if (!value) return none(y);
    const { median, min, max } = value;
    const middle = y + BAR / 2;
    return [
      rect(which, LEFT, x(median), y),
      `<line class="range" x1="${fixed(x(min))}" x2="${fixed(x(max))}" y1="${middle}" y2="${middle}"/>`,
      text(x(max) + 6, y + BAR - 2, median.toFixed(digits), ''),
    ].join('');
  });
  return bars.join('');
}

function none(y: number): string {
  return text(LEFT + 4, y + BAR - 2, 'none: errors or duplicates executed', '');
}

function rect(which: number, from: number, to: number, y: number): string {
  return `<rect class="s${which}" x="${fixed(from)}" y="${y + 1}" width="${fixed(to - from)}" height="${BAR - 2}"/>`;
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
