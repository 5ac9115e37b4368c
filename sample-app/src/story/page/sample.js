/** How the page talks to the sample: with the token, and with nothing else. */

const TIMEOUT = 45_000;
const DEFAULT_TOKEN = 'dev-token';

/** From the address, after its #, where no server sees it. A reload keeps it. */
function givenToken() {
  const given = decodeURIComponent(location.hash.slice(1));
  if (given) {
    sessionStorage.setItem('token', given);
    history.replaceState(null, '', location.pathname);
  }
  return sessionStorage.getItem('token') ?? DEFAULT_TOKEN;
}

let token = givenToken();

export function useToken(given) {
  token = given;
  sessionStorage.setItem('token', given);
}

/** The sample has answered with an error. */
export class SampleError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(path, { method = 'GET', body, timeout = TIMEOUT } = {}) {
  const response = await fetch(path, {
    method,
    signal: AbortSignal.timeout(timeout),
    headers: {
      Authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (!response.ok) {
    const { message = response.statusText } = await response.json().catch(() => ({}));
    throw new SampleError(response.status, message);
  }
  return response;
}

export const state = async () => (await call('story/state')).json();

export const leads = async () => (await call('api/leads', { timeout: 3_000 })).json();

/** What came back, once for each time that the webhook was sent. */
export const deliver = async (webhook, times) =>
  (await call('story/deliveries', { method: 'POST', body: { ...webhook, times } })).json();

export const deliverToKilledInstance = async (webhook) =>
  (await call('story/instance/kill', { method: 'POST', body: webhook })).json();

/** @param step such as `redis/kill` */
export const change = (step) => call(`story/${step}`, { method: 'POST' });

/** Counters and gauges of the module by name and labels. Ages move all the time and are left out. */
export async function metrics() {
  const text = await (await call('metrics')).text();
  const values = new Map();
  for (const line of text.split('\n')) {
    const [, series, value] = /^(idempotency_.*) (\S+)$/.exec(line) ?? [];
    if (series && !/^idempotency_\w*_seconds/.test(series)) values.set(series, Number(value));
  }
  return values;
}
