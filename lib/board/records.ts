import type { IdempotencyAdmin, ListOptions } from '../admin/idempotency-admin';
import { age, bytes } from '../admin/readable';
import { callersTyped } from '../admin/selection';
import {
  RECORD_STATES,
  type RecordPage,
  type RecordState,
  type RecordSummary,
} from '../core/record-directory';
import type { Duration } from '../options/duration';
import { brief, link, notice, table } from './elements';
import { explained } from './explained';
import { markup, type Markup, type Part } from './markup';
import type { View } from './page';

/** So many of the longest keys and routes that there can be stay below 60 kB. */
const LIMIT = 25;

export const STATES: Readonly<Record<RecordState, { readonly text: string; readonly look: string }>> = {
  in_flight: { text: 'in flight', look: '' },
  orphaned: { text: 'orphaned', look: 'bad' },
  completed: { text: 'completed', look: 'good' },
  unstorable: { text: 'not stored', look: 'odd' },
};

const FIELDS = ['state', 'route', 'principal', 'key', 'olderThan'] as const;
type Filter = Partial<Record<(typeof FIELDS)[number] | 'cursor', string>>;

/** Records, the one that expires last first, a page at a time. */
export async function records(admin: IdempotencyAdmin, query: URLSearchParams): Promise<View> {
  const filter = filterIn(query);
  try {
    const page = await admin.list(listOptions(filter));
    return { title: 'Records', content: markup`${filterForm(filter)}${list('Records', page, filter)}` };
  } catch (error) {
    const told = explained(error);
    if (told?.status !== 400) throw error;
    const content = markup`${notice(told.text, 'alert')}${filterForm(filter)}`;
    return { title: 'Records', content, status: 400 };
  }
}

/** Those whose outcome an operator has to settle, under `onOrphan: 'reject'`. */
export async function orphans(admin: IdempotencyAdmin, query: URLSearchParams, told?: Markup): Promise<View> {
  const cursor = query.get('cursor') ?? undefined;
  const page = await admin.list(listOptions({ state: 'orphaned', cursor }));
  return {
    title: 'Orphans',
    content: markup`${told}
<p>Their owners were lost before they recorded an outcome. With <code>onOrphan: 'retry'</code> the next request
takes over. With <code>'reject'</code> retries get 409 until you settle the outcome: open the record.</p>
${page.records.length === 0 && page.cursor === undefined ? notice('There are no orphans.') : list('Orphans', page, {}, 'orphans')}`,
  };
}

function filterIn(query: URLSearchParams): Filter {
  return Object.fromEntries(
    [...FIELDS, 'cursor'].flatMap((name) => {
      const value = query.get(name)?.trim();
      return value ? [[name, value]] : [];
    }),
  );
}

function listOptions({ principal, olderThan, state, ...filter }: Filter): ListOptions {
  return {
    ...filter,
    limit: LIMIT,
    ...(state === undefined ? {} : { state: state as RecordState }),
    ...(olderThan === undefined ? {} : { olderThan: olderThan as Duration }),
    ...(principal === undefined ? {} : { principal: { text: callersTyped(principal) } }),
  };
}

function filterForm(filter: Filter): Markup {
  const text = (name: keyof Filter, label: string, example: string): Markup =>
    markup`<label>${label}<input name="${name}" value="${filter[name]}" placeholder="${example}" autocomplete="off"></label>\n`;
  return markup`<form method="get" role="search" aria-label="Filter of records">
<input type="hidden" name="view" value="records">
<label>State<select name="state"><option value="">any</option>
${RECORD_STATES.map((state) => markup`<option value="${state}"${state === filter.state && markup` selected`}>${STATES[state].text}</option>`)}</select></label>
${text('route', 'Route', 'POST /leads/:id')}${text('principal', 'Caller', 'u7')}${text('key', 'Key', '')}${text('olderThan', 'Older than', '1h')}<button>Filter</button>
</form>`;
}

function list(
  caption: string,
  { records: found, cursor }: RecordPage,
  filter: Filter,
  view = 'records',
): Markup {
  const more = cursor !== undefined && markup`<a href="${link(view, { ...filter, cursor })}">Next page</a>`;
  const first =
    filter.cursor !== undefined &&
    markup`<a href="${link(view, { ...filter, cursor: undefined })}">First page</a>`;
  const none = cursor === undefined ? 'There are no such records.' : NONE_YET;
  return markup`${found.length === 0 ? notice(none) : table(caption, HEAD, found.map(row))}
<p>${first} ${more}</p>`;
}

/** A page ends early where most of the table belongs to other namespaces. */
const NONE_YET = 'None found so far among many records of other namespaces. The next page looks on.';

const HEAD = ['Key', 'State', 'Age', 'Route', 'Caller', 'Status', 'Size'];

function row({
  hash,
  key,
  state,
  createdAt,
  route,
  scope,
  principal,
  status,
  bytes: size,
}: RecordSummary): Part[] {
  return [
    markup`<a href="${link('record', { hash })}"><code>${brief(key) || '(empty)'}</code></a>`,
    stateOf(state),
    age(createdAt),
    brief(route ?? scope),
    brief(principal ?? ''),
    status,
    bytes(size),
  ];
}

export function stateOf(state: RecordState): Markup {
  return markup`<span class="${STATES[state].look}">${STATES[state].text}</span>`;
}
