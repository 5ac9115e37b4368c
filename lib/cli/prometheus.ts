/** Milliseconds. */
const TIMEOUT = 5_000;

/**
 * Asks the HTTP API of Prometheus. User and password of the URL go as a header: no request may have them in its URL.
 * @param prometheusUrl as in PROMETHEUS_URL
 * @param path with its query, such as `api/v1/rules`
 * @throws Error if it cannot be asked, or answers with no success
 */
export async function askPrometheus(prometheusUrl: string, path: string): Promise<unknown> {
  if (!URL.canParse(prometheusUrl)) throw new Error('PROMETHEUS_URL is not a URL');
  const base = new URL(prometheusUrl);
  const { username, password } = base;
  [base.username, base.password] = ['', ''];
  const credentials = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`);
  const headers: Record<string, string> =
    username || password ? { Authorization: `Basic ${credentials.toString('base64')}` } : {};
  const url = new URL(path, base.href.replace(/\/?$/, '/'));
  const response = await fetch(url, { headers, signal: AbortSignal.timeout(TIMEOUT) });
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response.json();
}
