import type { AdminStats, IdempotencyAdmin } from '../admin/idempotency-admin';
import { bytes, percent, seconds } from '../admin/readable';
import { RECORD_STATES } from '../core/record-directory';
import type { HealthReport } from '../observability/health';
import { brief, definitions, link, notice, table } from './elements';
import { explained } from './explained';
import { markup, type Markup } from './markup';
import type { View } from './page';
import type { CountedKind, Counts, ProcessCounts } from './process-counts';
import { STATES } from './records';

const MOST_ROUTES = 20;

/** What an operator looks at first. Where a store does not answer, it says so in its place. */
export async function overview(
  admin: IdempotencyAdmin,
  counts: ProcessCounts,
  health: HealthReport,
): Promise<View> {
  const { content, requests } = await records(admin, health);
  return {
    title: 'Overview',
    content: markup`${health.redis === 'down' && notice(REDIS_DOWN)}
<h2>Records, of all processes</h2>
${content}
<h2>This process</h2>
${traffic(await counts.read(), requests)}`,
  };
}

const REDIS_DOWN = 'Redis does not answer. All works as usual, slightly slower: Postgres replays.';
export const POSTGRES_DOWN =
  'Postgres does not answer, so records cannot be looked at or changed. Redis replays what it holds; new keys get 503, ' +
  'or run unprotected with onOutage.';

type ProcessRequests = AdminStats['requests'];

async function records(
  admin: IdempotencyAdmin,
  { postgres }: HealthReport,
): Promise<{ readonly content: Markup; readonly requests?: ProcessRequests }> {
  if (postgres === 'down') return { content: notice(POSTGRES_DOWN, 'alert') };
  try {
    const stats = await admin.stats();
    return { content: figures(stats), requests: stats.requests };
  } catch (error) {
    const told = explained(error);
    if (!told) throw error;
    return { content: notice(told.text) };
  }
}

function figures({ rows, bytes: size, byState, byRoute, estimated, ...ages }: AdminStats): Markup {
  const about = estimated ? 'about ' : '';
  const states = RECORD_STATES.map((state) => {
    const count = byState[state].toLocaleString('en');
    const exact = state === 'in_flight' || state === 'orphaned';
    const view = state === 'orphaned' ? link('orphans') : link('records', { state });
    return [STATES[state].text, markup`<a href="${view}">${exact ? '' : about}${count}</a>`] as const;
  });
  const routes = byRoute
    .slice(0, MOST_ROUTES)
    .map(({ route, rows: count }) => [brief(route, 120), `${about}${count.toLocaleString('en')}`]);
  return markup`${definitions(
    [
      ...states,
      ['records', `${about}${rows.toLocaleString('en')}`],
      ['table and indexes', bytes(size)],
      ['oldest orphan', ages.oldestOrphan === undefined ? 'none' : seconds(ages.oldestOrphan)],
      ['last cleanup', ages.lastCleanup === undefined ? 'never' : `${seconds(ages.lastCleanup)} ago`],
      [
        'expired, not deleted yet',
        ages.oldestExpired === undefined ? 'none' : `for ${seconds(ages.oldestExpired)}`,
      ],
    ],
    'figures',
  )}
${routes.length > 0 && table('The most frequent routes', ['Route', 'Records'], routes)}`;
}

function traffic(counts: Counts | undefined, requests: ProcessRequests): Markup {
  const hits =
    requests &&
    ([
      ['requests executed', requests.executed.toLocaleString('en')],
      ['requests replayed', requests.replayed.toLocaleString('en')],
      ['hit rate', requests.hitRate === undefined ? 'none yet' : percent(requests.hitRate)],
    ] as const);
  if (!counts)
    return markup`${notice('More is counted with @willsoto/nestjs-prometheus and prom-client, which are not installed.')}
${hits && definitions(hits, 'figures')}`;
  const count = (name: Parameters<Counts['value']>[0]): string =>
    (counts.value(name) ?? 0).toLocaleString('en');
  return markup`${definitions(
    [
      ['handlers in flight', count('inFlight')],
      ['requests that wait', count('waitingRequests')],
      ['pending writes', count('pendingWrites')],
      ['replays from Redis', count('redisHits')],
      ['replays from Postgres', count('dbHits')],
      ['orphans taken over', count('orphans')],
      ['leases lost', count('leasesLost')],
      ['errors of Redis', count('redisErrors')],
      ['errors of Postgres', count('dbErrors')],
      ...(hits?.slice(2) ?? []),
    ],
    'figures',
  )}
${kinds('Requests by what became of them', 'Outcome', counts.requests)}
${kinds('Requests that were shed', 'What was full', counts.shed)}`;
}

function kinds(caption: string, head: string, counted: readonly CountedKind[]): Markup {
  if (counted.length === 0) return markup`<p class="dim">${caption}: none.</p>`;
  const rows = counted.map(({ kind, total, rate }) => [
    markup`<code>${kind}</code>`,
    total.toLocaleString('en'),
    rate?.toFixed(1),
  ]);
  return table(caption, [head, 'Since the start', 'A second, in the last minute'], rows);
}
