import { readFileSync } from 'node:fs';
import { join } from 'node:path';

interface Target {
  readonly expr: string;
  readonly legendFormat: string;
}

export interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly datasource?: unknown;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly Target[];
}

interface Variable {
  readonly name: string;
  readonly type: string;
  readonly definition?: string;
}

const { panels, templating } = JSON.parse(
  readFileSync(join(__dirname, '../../monitoring/dashboard.json'), 'utf8'),
) as { readonly panels: readonly Panel[]; readonly templating: { readonly list: readonly Variable[] } };

export const variables = templating.list;
/** What shows something; the other panels are the titles of rows. */
export const charts = panels.filter(({ type }) => type !== 'row');

/** What each panel asks for, with values in place of Grafana's variables. */
export const queries = charts.flatMap(({ title, targets = [] }) =>
  targets.map(({ expr, legendFormat }) => ({
    title,
    legend: legendFormat,
    query: expr.replaceAll('$__rate_interval', '5m').replaceAll(/\$(job|instance)\b/g, '.*'),
  })),
);
