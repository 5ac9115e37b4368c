import { register } from 'prom-client';

/** The present value of a counter or gauge. */
export async function metric(name: string, labels: Record<string, string> = {}): Promise<number> {
  const { values } = (await register.getSingleMetric(name)?.get()) ?? { values: [] };
  const wanted = Object.entries(labels);
  const found = values.filter((value) => wanted.every(([label, text]) => value.labels[label] === text));
  return found.reduce((sum, { value }) => sum + value, 0);
}
