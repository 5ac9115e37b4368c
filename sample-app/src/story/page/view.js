/** What the page shows. Each text of an answer goes in as text, never as HTML. */

const MOST_ANSWERS = 40;

const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

export function say(text) {
  // Screen readers read what changes.
  if (byId('said').textContent !== text) byId('said').textContent = text;
}

export function showBusy(busy) {
  document.querySelector('main').setAttribute('aria-busy', String(busy));
}

export function showStores({ redis, postgres }) {
  const show = (id, word) => {
    byId(id).textContent = word;
    byId(id).dataset.health = word;
  };
  show('redis', redis.health);
  show('postgres', postgres.frozen ? 'frozen' : postgres.health);
}

/** A button that does nothing keeps its place in the order of the keyboard, and says why. */
export function enable(button, why) {
  if (why === undefined) {
    button.removeAttribute('aria-disabled');
    button.removeAttribute('title');
  } else {
    button.setAttribute('aria-disabled', 'true');
    button.title = why;
  }
}

export function askForToken(needed) {
  if (byId('token-form').hidden === !needed) return;
  byId('token-form').hidden = !needed;
  if (needed) byId('token').focus();
}

/** @param answer what came back, with the `webhook` that was sent, its `source`, and whether it `repeats` the first */
export function showAnswer({ webhook, source, repeats, delivery }) {
  const { status, reason, headers = [], body, milliseconds, failure } = delivery;
  const summary = element(
    'summary',
    {},
    element('span', { class: 'source-badge', 'data-source': source }, source),
    ' ',
    element('strong', {}, failure === undefined ? `${status} ${reason}` : failure),
    ' ',
    element('code', {}, webhook.key),
    ...(repeats === undefined
      ? []
      : [' ', repeats ? 'same bytes as the first' : 'not the bytes of the first']),
    ...(milliseconds === undefined ? [] : [' ', element('span', { class: 'time' }, `${milliseconds} ms`)]),
  );
  const lines = headers.map(([name, value]) => `${name}: ${value}`);
  const item =
    failure === undefined
      ? element('details', {}, summary, element('pre', { tabindex: '0' }, [...lines, '', body].join('\n')))
      : element('div', { class: 'failed' }, ...summary.childNodes);
  const list = byId('answers');
  list.prepend(element('li', {}, item));
  while (list.children.length > MOST_ANSWERS) list.lastElementChild.remove();
}

export function showLeads({ count, leads }, duplicates) {
  byId('leads-count').textContent =
    duplicates === 0
      ? `${count} ${count === 1 ? 'lead' : 'leads'}. No webhook of this page has two.`
      : `${count} leads. ${duplicates} webhooks of this page have more than one.`;
  byId('leads').replaceChildren(
    ...leads.map(({ id, userId, name, createdAt }) =>
      element(
        'tr',
        {},
        ...[id, userId, name, new Date(createdAt).toLocaleTimeString()].map((value) =>
          element('td', {}, String(value)),
        ),
      ),
    ),
  );
}

export function leadsUnknown() {
  byId('leads-count').textContent = 'Postgres does not answer, so this list may be old.';
}

/** @param moved lists of series, value before, and value now */
export function showMetrics(moved) {
  const rows = moved.map(([series, before, now]) =>
    element(
      'tr',
      {},
      element('td', {}, element('code', {}, series)),
      element('td', {}, String(before)),
      element('td', {}, String(now)),
    ),
  );
  byId('metrics').replaceChildren(
    ...(rows.length > 0 ? rows : [element('tr', {}, element('td', { colspan: '3' }, 'None.'))]),
  );
}
