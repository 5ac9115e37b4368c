import { register } from 'prom-client';

/** The present value of a counter or gauge. */
export async function metric(name: string, labels: Record<string, string> = {}): Promise<number> {
  const { values } = (await register.getSingleMetric(name)?.get()) ?? { values: [] };
  const wanted = Object.entries(labels);
  const found = values.filter((value) => wanted.every(([label, text]) => value.labels[label] === text));
  return found.reduce((sum, { value }) => sum + value, 0);
}

/** The same of what another process exposes, in Prometheus' text format. */
export function metricOf(exposed: string, name: string, labels: Record<string, string> = {}): number {
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  return exposed
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
    .filter((line) => wanted.every((pair) => line.includes(pair)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}
