import * as sample from './sample.js';
import * as view from './view.js';

/** The webhook story: what each button does, and what its answers mean. */

const POLL = 3_000;
const BUSY = 'The last step is not done yet.';
const NAMES = ['Ada Lovelace', 'Grace Hopper', 'Alan Turing', 'Barbara Liskov', 'Edsger Dijkstra'];

/** The keys of this visit are like no others. */
const VISIT = Math.random().toString(36).slice(2, 6);

const buttons = [...document.querySelectorAll('button[data-step]')];
const firstBodies = new Map();
let sent = 0;
let webhook;
let state;
let busy = false;

function newWebhook() {
  sent += 1;
  const key = `lead-${VISIT}-${sent}`;
  return { key, user_id: key, name: NAMES[sent % NAMES.length] };
}

async function send(next, times = 1) {
  webhook = next;
  return sample.deliver(webhook, times);
}

const steps = {
  send: () => send(newWebhook()),
  again: () => send(webhook),
  ten: () => send(newWebhook(), 10),
  'instance/kill': () => {
    webhook = newWebhook();
    return sample.deliverToKilledInstance(webhook);
  },
  'redis/kill': () => change('redis/kill', 'Redis is killed.'),
  'redis/start': () => change('redis/start', 'Redis runs again, and is empty.'),
  'postgres/freeze': () => change('postgres/freeze', 'Postgres is frozen.'),
  'postgres/thaw': () => change('postgres/thaw', 'Postgres answers again.'),
};

async function change(step, done) {
  await sample.change(step);
  view.say(done);
  return [];
}

/** Why a step does nothing now; undefined if it does something. */
function obstacle(step) {
  if (state === undefined) return 'The sample does not answer.';
  const { redis, postgres, instance } = state;
  switch (step) {
    case 'again':
      return webhook ? undefined : 'Send a webhook first.';
    case 'redis/kill':
      return redis.untouchable ?? (redis.health === 'up' ? undefined : 'Redis does not run.');
    case 'redis/start':
      return redis.untouchable ?? (redis.health === 'up' ? 'Redis runs.' : undefined);
    case 'postgres/freeze':
      return postgres.untouchable ?? (postgres.frozen ? 'Postgres is frozen.' : undefined);
    case 'postgres/thaw':
      return postgres.untouchable ?? (postgres.frozen ? undefined : 'Postgres is not frozen.');
    case 'instance/kill':
      return instance.untouchable ?? (postgres.frozen ? 'Postgres is frozen.' : undefined);
    default:
      return undefined;
  }
}

function showButtons() {
  view.showBusy(busy);
  for (const button of buttons) view.enable(button, busy ? BUSY : obstacle(button.dataset.step));
}

const header = ({ headers = [] }, wanted) =>
  headers.find(([name]) => name.toLowerCase() === wanted)?.[1] ?? '';

/** Where an answer came from. Which store replayed it is known by the counter that has moved. */
function sourceOf(delivery, moved) {
  if (delivery.failure !== undefined) return 'no answer';
  if (header(delivery, 'content-type').startsWith('application/problem+json')) return 'refused';
  if (header(delivery, 'idempotent-replayed') !== 'true') return 'handler';
  const stores = [
    ['Redis', 'idempotency_redis_hits'],
    ['Postgres', 'idempotency_db_hits'],
  ];
  const hit = stores.filter(([, series]) => moved.some(([name]) => name === series)).map(([store]) => store);
  return hit.join(' or ') || 'record';
}

/** Whether a replay has the body of the first response; undefined for what is no replay. */
function repeatsFirst(delivery, source) {
  if (source === 'handler') firstBodies.set(webhook.key, delivery.body);
  if (header(delivery, 'idempotent-replayed') !== 'true') return undefined;
  return delivery.body === firstBodies.get(webhook.key);
}

function showDeliveries(deliveries, moved) {
  const answers = deliveries.map((delivery) => ({ webhook, delivery, source: sourceOf(delivery, moved) }));
  // The first response comes first, so that the others are compared with it.
  answers.sort((a, b) => Number(b.source === 'handler') - Number(a.source === 'handler'));
  for (const answer of answers)
    view.showAnswer({ ...answer, repeats: repeatsFirst(answer.delivery, answer.source) });
  if (answers.length > 0) view.say(summary(answers));
}

function inShort({ delivery: { status }, source }) {
  if (source === 'no answer') return source;
  if (source === 'refused') return `${status}, refused`;
  return `${status}, from ${source === 'handler' ? 'the handler' : source}`;
}

function summary(answers) {
  const counts = new Map();
  for (const answer of answers) {
    const text = inShort(answer);
    counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  return [...counts].map(([text, count]) => (answers.length > 1 ? `${count} × ${text}` : text)).join('; ');
}

async function showLeads() {
  if (state.postgres.health !== 'up') return view.leadsUnknown();
  const found = await sample.leads();
  const ours = found.leads.map(({ userId }) => userId).filter((id) => id.startsWith(`lead-${VISIT}-`));
  const doubled = ours.filter((id, i) => ours.indexOf(id) < i);
  view.showLeads(found, new Set(doubled).size);
}

/** @param isCurrent whether what was found is still to be shown */
async function refresh(isCurrent = () => true) {
  const found = await sample.state();
  if (!isCurrent()) return;
  state = found;
  view.askForToken(false);
  view.showStores(state);
  await showLeads().catch(view.leadsUnknown);
}

function difference(before, now) {
  return [...now]
    .map(([series, value]) => [series, before.get(series) ?? 0, value])
    .filter(([, a, b]) => a !== b);
}

function explain(error) {
  if (error instanceof sample.SampleError) {
    if (error.status === 401) view.askForToken(true);
    return view.say(error.message);
  }
  state = undefined;
  view.say('The sample does not answer. Start it with npm start.');
}

async function play(step) {
  const why = busy ? BUSY : obstacle(step);
  if (why !== undefined) return view.say(why);
  busy = true;
  view.say('…');
  showButtons();
  try {
    const before = await sample.metrics();
    const deliveries = await steps[step]();
    const moved = difference(before, await sample.metrics());
    showDeliveries(deliveries, moved);
    view.showMetrics(moved);
    await refresh();
  } catch (error) {
    explain(error);
  }
  busy = false;
  showButtons();
}

/** A store may also be killed from a shell. What a step has changed meanwhile is newer. */
async function look() {
  const isCurrent = () => !busy;
  await refresh(isCurrent).catch((error) => isCurrent() && explain(error));
  showButtons();
}

for (const button of buttons) button.addEventListener('click', () => play(button.dataset.step));

document.getElementById('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  sample.useToken(document.getElementById('token').value);
  void look();
});

setInterval(() => {
  if (!busy && !document.hidden) void look();
}, POLL);
void look();
