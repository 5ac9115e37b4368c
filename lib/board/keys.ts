import { age } from '../admin/readable';
import { brief, link, notice, table, time } from './elements';
import type { HotKeys } from './hot-keys';
import { markup } from './markup';
import type { View } from './page';

const MOST = 25;

/** The keys that this process met most often: a client in a loop, or a webhook that is sent again and again. */
export function hotKeys(counted: HotKeys): View {
  const { since, keys } = counted.hottest(MOST);
  const rows = keys.map(({ hash, route, claimed, replayed, refused, total }) => [
    markup`<a href="${link('record', { hash })}"><code>${hash.slice(0, 16)}…</code></a>`,
    brief(route ?? 'no HTTP route'),
    total,
    claimed,
    replayed,
    refused,
  ]);
  return {
    title: 'Hot keys',
    content: markup`<p>Keys with more than one request in this process since ${time(since)} (${age(since)}). Other processes count
their own: a look at this page may reach another one.</p>
${
  rows.length === 0
    ? notice('No key came twice.')
    : table('Hot keys', ['Record', 'Route', 'Requests', 'Ran', 'Replayed', 'Refused'], rows)
}`,
  };
}
