import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { withoutPassword } from '../output';
import { askPrometheus } from '../prometheus';
import { findings, type Finding } from './finding';

const RULES = join(__dirname, '../../../monitoring/alerts.yml');

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
    answer = (await askPrometheus(prometheusUrl, 'api/v1/rules')) as RulesAnswer;
  } catch (error) {
    const reason = withoutPassword(error instanceof Error ? error.message : String(error));
    return findings('alerts', [
      'error',
      `Prometheus cannot be asked: ${reason}`,
      'Check PROMETHEUS_URL: scheme, host, port, path, and user and password if it asks for them.',
    ]);
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
