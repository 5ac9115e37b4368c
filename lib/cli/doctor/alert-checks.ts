import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findings, type Finding } from './finding';

const RULES = join(__dirname, '../../../monitoring/alerts.yml');
/** Milliseconds. */
const TIMEOUT = 5_000;

interface RulesAnswer {
  readonly data?: { readonly groups?: readonly { readonly rules?: readonly { readonly name?: string }[] }[] };
}

/** Whether Prometheus has loaded the alert rules of this package. */
export async function checkAlerts(prometheusUrl: string | undefined): Promise<Finding[]> {
  if (!prometheusUrl)
    return [{ check: 'alerts', level: 'skipped', problem: 'set PROMETHEUS_URL to check them' }];
  const expected = [...(await readFile(RULES, 'utf8')).matchAll(/- alert: (\w+)/g)].map(
    ([, name]) => name ?? '',
  );
  let answer: RulesAnswer;
  try {
    const response = await fetch(new URL('api/v1/rules', prometheusUrl.replace(/\/?$/, '/')), {
      signal: AbortSignal.timeout(TIMEOUT),
    });
    if (!response.ok) throw new Error(`status ${response.status}`);
    answer = (await response.json()) as RulesAnswer;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return findings('alerts', ['error', `Prometheus cannot be asked: ${reason}`, 'Check PROMETHEUS_URL.']);
  }
  const loaded = new Set(
    (answer.data?.groups ?? []).flatMap(({ rules = [] }) => rules.map(({ name }) => name)),
  );
  const missing = expected.filter((name) => !loaded.has(name));
  return findings(
    'alerts',
    missing.length > 0 && [
      'warning',
      `Prometheus has not loaded ${missing.join(', ')}`,
      'Add node_modules/nestjs-idempotency/monitoring/alerts.yml to its rule_files.',
    ],
  );
}
