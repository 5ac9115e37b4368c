import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { withoutPassword } from '../output';
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
    const { url, headers } = requestTo(prometheusUrl);
    const response = await fetch(url, { headers, signal: AbortSignal.timeout(TIMEOUT) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    answer = (await response.json()) as RulesAnswer;
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

/** User and password go as a header: no request may have them in its URL. */
function requestTo(prometheusUrl: string): { readonly url: URL; readonly headers: Record<string, string> } {
  if (!URL.canParse(prometheusUrl)) throw new Error('PROMETHEUS_URL is not a URL');
  const base = new URL(prometheusUrl);
  const { username, password } = base;
  [base.username, base.password] = ['', ''];
  const url = new URL('api/v1/rules', base.href.replace(/\/?$/, '/'));
  if (!username && !password) return { url, headers: {} };
  const credentials = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`);
  return { url, headers: { Authorization: `Basic ${credentials.toString('base64')}` } };
}
