import { register } from 'prom-client';
import { REQUEST_OUTCOMES } from '../../lib/core/ports';
import { startApp, type TestApp } from '../support/app';
import { charts, queries, variables } from './dashboard';

/** What Prometheus adds to each series. */
const ADDED = ['job', 'instance'];

const labelsOf = (name: string): string[] => {
  const metric = register.getSingleMetric(name.replace(/_(bucket|sum|count)$/, '')) as
    { readonly labelNames?: string[] } | undefined;
  if (!metric) throw new Error(`The module has no metric ${name}`);
  return [...(metric.labelNames ?? []), ...ADDED, ...(name.endsWith('_bucket') ? ['le'] : [])];
};

const metricsIn = (query: string): string[] => [...new Set(query.match(/\bidempotency_\w+/g))];

/** The labels that select series of a metric, as `metric.label`. */
const selectors = (query: string): [metric: string, label: string][] =>
  [...query.matchAll(/(idempotency_\w+)\{([^}]*)\}/g)].flatMap(([, metric = '', matchers = '']) =>
    [...matchers.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, label = '']): [string, string] => [
      metric,
      label,
    ]),
  );

const groupings = (query: string): string[] =>
  [...query.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, labels = '']) => labels.split(/,\s*/));

describe('monitoring/dashboard.json', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({ options: { store: 'memory' } });
  });
  afterAll(() => app.close());

  it.each(queries)('asks for metrics and labels that the module has: $title, $query', ({ query, legend }) => {
    const names = metricsIn(query);
    expect(names.length).toBeGreaterThan(0);
    expect(selectors(query).filter(([metric, label]) => !labelsOf(metric).includes(label))).toEqual([]);
    const known = names.flatMap(labelsOf);
    expect(groupings(query).filter((label) => !known.includes(label))).toEqual([]);
    // A legend can name only what the query leaves.
    const left = groupings(query).length > 0 ? groupings(query) : known;
    const named = [...legend.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label!);
    expect(named.filter((label) => !left.includes(label))).toEqual([]);
  });

  it('names outcomes that a request can have', () => {
    const named = queries
      .flatMap(({ query }) => [...query.matchAll(/outcome[!=]~"([^"]*)"/g)])
      .flatMap(([, outcomes = '']) => outcomes.split('|'));
    expect(named.length).toBeGreaterThan(0);
    expect(named.filter((each) => !(REQUEST_OUTCOMES as readonly string[]).includes(each))).toEqual([]);
  });

  it('shows each metric of the module', () => {
    const shown = queries
      .flatMap(({ query }) => metricsIn(query))
      .map((name) => name.replace(/_(bucket|sum)$/, ''));
    const known = register
      .getMetricsAsArray()
      .map(({ name }) => name)
      .filter((name) => name.startsWith('idempotency_'));
    expect(known.length).toBeGreaterThan(15);
    expect(known.filter((name) => !shown.includes(name))).toEqual([]);
  });

  it('can be used with any Prometheus, and says what each panel means', () => {
    expect(variables.map(({ name, type }) => `${name}: ${type}`)).toEqual([
      'datasource: datasource',
      'job: query',
      'instance: query',
    ]);
    for (const { definition } of variables)
      if (definition !== undefined) expect(metricsIn(definition).map(labelsOf)).not.toEqual([]);
    for (const chart of charts) {
      expect(chart.datasource).toEqual({ type: 'prometheus', uid: '${datasource}' });
      expect(chart.description).toMatch(/\.$/);
    }
    expect(new Set(charts.map(({ id }) => id)).size).toBe(charts.length);
  });

  it('lays no panel over another', () => {
    const cells = charts.flatMap(({ gridPos: { x, y, w, h } }) => {
      expect(x + w).toBeLessThanOrEqual(24);
      return Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`);
    });
    expect(new Set(cells).size).toBe(cells.length);
  });
});
