import type { RecordDetails } from '../admin/idempotency-admin';
import { age, bytes, WITHOUT_RESPONSE } from '../admin/readable';
import type { RecordState } from '../core/record-directory';
import { visible } from '../core/visible';
import { definitions, notice, table, time } from './elements';
import { markup, type Markup, type Part } from './markup';
import type { View } from './page';
import { stateOf } from './records';
import type { ShownRecord } from './redaction';
import { fitted } from './room';

/** Bytes of a key, route, scope or caller on the page. The command shows them whole. */
const BYTES_OF_A_TEXT = 1_500;

/** What of a record leads to changes; undefined for readers. */
export interface ChangeForms {
  readonly token: string;
  /** What was typed, where it was refused. */
  readonly typed?: URLSearchParams;
}

const COPIES: Readonly<Record<NonNullable<RecordDetails['copy']>, string>> = {
  in_progress: 'in flight',
  completed: 'the response',
  pending: 'a response that Postgres does not have yet',
  unreachable: 'unknown: Redis does not answer',
};

const NO_RESPONSE: Readonly<Record<RecordState, string>> = {
  in_flight: 'There is no response yet.',
  orphaned: 'None was recorded.',
  completed: 'The option redact hides it.',
  unstorable: 'It could not be kept.',
};

/** One record: what it is, when what happened to it, its response, and what can be done. */
export function record(shown: ShownRecord, forms: ChangeForms | undefined, told?: Markup): View {
  const { hash, key, route, scope, principal, fingerprint, state, attempt, status, copy, ...rest } =
    shown.record;
  return {
    title: 'Record',
    content: markup`${told}
${definitions([
  ['Key', code(key)],
  ['Route', route === undefined ? undefined : code(route)],
  ['Scope', code(scope)],
  ['Caller', principal === undefined ? 'not told: callers share their keys' : code(principal)],
  ['State', stateOf(state)],
  ['Attempt', attempt],
  ['Status', status],
  ['Size', bytes(rest.bytes)],
  ['In Redis', copy && COPIES[copy]],
  ['Fingerprint', code(fingerprint)],
  ['Hash', code(hash)],
])}
<h2>Timeline</h2>
${timeline(shown.record)}
<h2>Response</h2>
${response(shown)}
${forms && changes(shown.record, forms)}`,
  };
}

function code(text: string): Markup {
  return markup`<code>${visible(fitted(text, BYTES_OF_A_TEXT))}</code>`;
}

function timeline({ createdAt, completedAt, leaseUntil, expiresAt, state, attempt }: RecordDetails): Markup {
  const at = (date: Date | undefined): Part =>
    date && markup`${time(date)} <span class="dim">${distance(date)}</span>`;
  return definitions([
    ['Claimed', at(createdAt)],
    ['Taken over', attempt > 1 ? `${attempt - 1} times` : undefined],
    [state === 'orphaned' ? 'Lease lapsed' : 'Lease until', at(leaseUntil)],
    ['Completed', at(completedAt)],
    ['Expires', at(expiresAt)],
  ]);
}

function distance(date: Date): string {
  const now = Date.now();
  return date.getTime() > now ? `in ${age(new Date(now), date.getTime())}` : `${age(date, now)} ago`;
}

function response({ record: { outcome, state }, response: shown, failed }: ShownRecord): Markup {
  if (failed)
    return notice(
      'The option redact failed, so nothing of the response is shown. The log says why.',
      'alert',
    );
  if (outcome?.kind === 'tombstone') return notice(WITHOUT_RESPONSE[outcome.reason]);
  if (!shown) return notice(NO_RESPONSE[state]);
  const { headers, body } = shown;
  const rows = headers.flatMap(([name, value]) => [value].flat().map((each) => [code(name), code(each)]));
  return markup`${rows.length > 0 && table('Headers', ['Name', 'Value'], rows)}
<h3>Body</h3>
${body === undefined ? notice('Bodies are not shown. The option showBodies of the board shows them.') : markup`<pre role="region" aria-label="Body of the response" tabindex="0">${body}</pre>`}`;
}

/** An orphan can be settled; what is over can be forgotten. */
function changes(details: RecordDetails, forms: ChangeForms): Markup {
  const { state, route } = details;
  if (state === 'in_flight')
    return markup`<h2>Change</h2>${notice('Its handler runs, so nothing can be changed now.')}`;
  const outcome = route === undefined ? valueFields(forms) : responseFields(forms);
  return markup`<h2>Change</h2>
${
  state === 'orphaned' && [
    changeForm(forms, {
      action: 'resolve',
      title: 'Resolve: the work was done',
      effect: 'Retries get this response. The handler does not run again.',
      fields: outcome,
    }),
    changeForm(forms, {
      action: 'retry',
      title: 'Retry: the work was not done',
      effect: 'The key is released. The next request runs the handler.',
    }),
  ]
}
${changeForm(forms, {
  action: 'forget',
  title: 'Forget',
  effect:
    'The record is deleted in both stores. The next request with this key runs the handler, as if there had been none.',
  danger: true,
})}`;
}

interface ChangeForm {
  readonly action: string;
  readonly title: string;
  readonly effect: string;
  readonly fields?: Markup;
  readonly danger?: boolean;
}

function changeForm(
  { token, typed }: ChangeForms,
  { action, title, effect, fields, danger }: ChangeForm,
): Markup {
  const reason = typed?.get('action') === action ? (typed.get('reason') ?? '') : '';
  return markup`<form method="post" class="change" aria-labelledby="${action}">
<h3 id="${action}">${title}</h3>
<p>${effect}</p>
<input type="hidden" name="token" value="${token}">
<input type="hidden" name="action" value="${action}">
${fields}
<label>Reason, for the audit<input name="reason" value="${reason}" required maxlength="1000" autocomplete="off"></label>
<button${danger && markup` class="danger"`}>${title.split(':')[0]}</button>
</form>
`;
}

function responseFields({ typed }: ChangeForms): Markup {
  const headers = typed?.get('headers') ?? 'Content-Type: application/json';
  return markup`<label>Status<input name="status" type="number" min="200" max="599" required value="${typed?.get('status') ?? '201'}"></label>
<label>Headers, one a line<textarea name="headers">\n${headers}</textarea></label>
<label>Body<textarea name="body">\n${typed?.get('body') ?? ''}</textarea></label>`;
}

function valueFields({ typed }: ChangeForms): Markup {
  return markup`<label>Value that execute() returns, as JSON<textarea name="value" required>\n${typed?.get('value') ?? ''}</textarea></label>`;
}
