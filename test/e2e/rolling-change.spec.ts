import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { bothStores } from '../support/both-stores';
import { eventually } from '../support/eventually';
import { call, type Answer } from '../support/http';
import { migrate } from '../support/postgres-store';
import { forkApp, type ForkedApp } from '../support/processes';

const FIXTURE = join(__dirname, '../fixtures/migrating/orders-app.ts');
/** Milliseconds: longer than any of these tests. */
const FOREVER = 600_000;

interface Instance extends ForkedApp {
  readonly url: string;
}

describe('a rolling change from a home-made interceptor, process by process', () => {
  const stores = bothStores();
  let databaseUrl: string;
  const started: Instance[] = [];
  /** Where requests go. */
  let live: Instance[] = [];
  /** The bodies of all answers below 300, by key. */
  let seen: Map<string, Set<string>>;
  /** Milliseconds that the handler of a key takes, if it is to be met at work. */
  const takes = new Map<string, number>();

  beforeAll(async () => {
    databaseUrl = await stores.postgres.createDatabase();
    await migrate(databaseUrl);
  });
  beforeEach(async () => {
    seen = new Map();
    live = await Promise.all([start('old'), start('old')]);
  });
  afterEach(async () => {
    for (const { child } of started) child.kill('SIGKILL');
    await Promise.all(started.splice(0).map(({ exited }) => exited));
  });

  const start = async (version: 'old' | 'new'): Promise<Instance> => {
    const app = forkApp(FIXTURE, {
      VERSION: version,
      DATABASE_URL: databaseUrl,
      REDIS_URL: stores.redis.url,
    });
    const instance = { ...app, url: await app.listening };
    started.push(instance);
    return instance;
  };

  const post = async ({ url }: Instance, key: string): Promise<Answer> => {
    const answer = await call(`${url}/orders`, {
      headers: { 'idempotency-key': key },
      body: { name: key, takes: takes.get(key) ?? 0 },
    });
    if (answer.status < 300) seen.set(key, (seen.get(key) ?? new Set()).add(answer.text));
    return answer;
  };
  /** To each live instance at once. A duplicate may be told to come back, and a request may meet one that is ending. */
  const storm = async (keys: readonly string[]): Promise<void> => {
    const answers = await Promise.allSettled(keys.flatMap((key) => live.map((each) => post(each, key))));
    const statuses = answers.flatMap((each) => (each.status === 'fulfilled' ? [each.value.status] : []));
    expect(statuses.filter((status) => status !== 201 && status !== 409)).toEqual([]);
  };
  const newKeys = (): string[] => Array.from({ length: 10 }, () => randomUUID());
  const keyThatTakes = (time: number): string => {
    const key = randomUUID();
    takes.set(key, time);
    return key;
  };
  const timesMade = async (key: string): Promise<number> => Number(await stores.client.hget('made', key));

  /** As an orchestrator does: the new one first, then the old one gets its signal. */
  const replace = async (signal: NodeJS.Signals): Promise<void> => {
    const [old, ...others] = live;
    live = [...others, await start('new')];
    old?.child.kill(signal);
    await old?.exited;
  };

  it('runs each key once, and gives all of its requests one response', async () => {
    const first = newKeys();
    await storm(first);
    const slow = keyThatTakes(300);
    const [leaving] = live;
    const inFlight = post(leaving!, slow);
    await leaving!.handling(slow);
    const second = newKeys();
    await Promise.all([replace('SIGTERM'), storm(second)]);
    expect((await inFlight).status).toBe(201);
    const third = newKeys();
    const moved = keyThatTakes(1_500);
    const [remaining, replacing] = live;
    const byNew = post(replacing!, moved);
    await replacing!.handling(moved);
    expect((await post(remaining!, moved)).status).toBe(409); // its lock is taken
    expect((await byNew).status).toBe(201);
    await storm([...first, slow, ...second, ...third]);
    await Promise.all([replace('SIGTERM'), storm([...third, ...second])]);
    const keys = [...first, slow, ...second, moved, ...third, ...newKeys()];
    await storm(keys);

    // Both are new now: each knows each key, and no longer needs what the old ones kept.
    const names = await stores.client.keys('idem:*');
    await stores.client.del(names);
    for (const instance of live)
      for (const key of keys) expect((await eventually(() => ok(post(instance, key)))).status).toBe(201);
    expect([...seen].filter(([, texts]) => texts.size !== 1)).toEqual([]);
    for (const key of keys) expect([key, await timesMade(key)]).toEqual([key, 1]);
    const made = [...seen.values()].map(([text]) => (JSON.parse(text!) as { by: string }).by);
    expect(new Set(made)).toEqual(new Set(['old', 'new']));
  });

  it('runs no key again that an old process was killed with: its lock stays, and retries get 409', async () => {
    const key = keyThatTakes(FOREVER);
    const [killed] = live;
    const lost = post(killed!, key).catch(() => undefined);
    await killed!.handling(key);
    await replace('SIGKILL');
    expect(await lost).toBeUndefined();
    await replace('SIGTERM');
    for (const instance of [...live, ...live]) expect((await post(instance, key)).status).toBe(409);
    expect(await timesMade(key)).toBe(1);
    // As the operator does who has looked at what it did, or as the lock expires.
    await stores.client.del(`idem:/orders:${key}`);
    takes.delete(key);
    for (const instance of live) expect((await post(instance, key)).status).toBe(201);
    expect([await timesMade(key), seen.get(key)?.size]).toEqual([2, 1]);
  });
});

async function ok(answer: Promise<Answer>): Promise<Answer> {
  const { status } = await answer;
  if (status !== 201) throw new Error(`answered ${status}`);
  return answer;
}
