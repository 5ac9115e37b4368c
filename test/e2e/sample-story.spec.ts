import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from '../support/eventually';
import { call, type Answer, type Call } from '../support/http';
import { launchSample, type Sample } from '../support/sample';

const FILES = join(__dirname, '../../sample-app/src/story/page');
const LOST = /hang up|ECONNRESET/;

interface Delivery {
  readonly status?: number;
  readonly headers?: readonly [name: string, value: string][];
  readonly body?: string;
  readonly failure?: string;
}

const isReplay = ({ headers = [] }: Delivery): boolean =>
  headers.some(([name, value]) => name === 'Idempotent-Replayed' && value === 'true');

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

describe('the page of the sample application', () => {
  const samples: Sample[] = [];
  let sample: Sample;
  let base = '';
  const token = { authorization: 'Bearer dev-token' };

  const launch = async (env: NodeJS.ProcessEnv = {}): Promise<void> => {
    sample = launchSample(env);
    samples.push(sample);
    base = await sample.listening();
  };
  afterEach(async () => {
    for (const { child } of samples) child.kill('SIGKILL');
    await Promise.all(samples.splice(0).map((each) => each.exits()));
  });

  const printed = (store: string, what: RegExp): string =>
    new RegExp(`${store} +.*?${what.source}`).exec(sample.output())![1]!;
  const pids = (): number[] => ['Redis', 'Postgres'].map((store) => Number(printed(store, /\(pid (\d+)\)/)));
  const get = (path: string, headers: Call['headers'] = token): Promise<Answer> =>
    call(base + path, { method: 'GET', headers });
  const post = (path: string, body?: unknown, headers: Call['headers'] = {}): Promise<Answer> =>
    call(`${base}/story/${path}`, { body, headers: { ...token, ...headers } });
  const state = async () =>
    JSON.parse((await get('/story/state')).text) as Record<string, Record<string, unknown>>;
  const leads = async (): Promise<number> =>
    (JSON.parse((await get('/api/leads')).text) as { count: number }).count;
  const webhook = (key: string) => ({ key, user_id: key, name: 'Ada' });
  const deliver = async (key: string, times = 1): Promise<Delivery[]> =>
    JSON.parse((await post('deliveries', { ...webhook(key), times })).text) as Delivery[];

  it('plays the story, and leaves no frozen server when it ends', async () => {
    await launch();
    const [first] = await deliver('a');
    expect([first?.status, isReplay(first!)]).toEqual([201, false]);
    const [again] = await deliver('a');
    expect([again?.status, again?.body, isReplay(again!)]).toEqual([201, first?.body, true]);

    const ten = await deliver('b', 10);
    expect(ten.filter((each) => !isReplay(each))).toHaveLength(1);
    expect(new Set(ten.map(({ status, body }) => `${status} ${body}`)).size).toBe(1);
    expect(await leads()).toBe(2);

    expect((await post('redis/kill')).status).toBe(204);
    expect((await state()).redis?.health).toBe('down');
    expect(isReplay((await deliver('b'))[0]!)).toBe(true);
    // The clicks of two pages, for example.
    const starts = await Promise.all([post('redis/start'), post('redis/start')]);
    expect(starts.map(({ status }) => status)).toEqual([204, 204]);
    expect((await state()).redis?.health).toBe('up');
    expect(isReplay((await deliver('b'))[0]!)).toBe(true);

    const killed = JSON.parse((await post('instance/kill', webhook('c'))).text) as Delivery[];
    expect(killed).toEqual([{ failure: expect.stringMatching(LOST) }]);
    expect(await leads()).toBe(2);
    const [retried] = await deliver('c');
    expect([retried?.status, isReplay(retried!)]).toEqual([201, false]);
    expect(await leads()).toBe(3);

    expect((await post('postgres/freeze')).status).toBe(204);
    expect(await state()).toMatchObject({
      postgres: { frozen: true, health: 'down' },
      redis: { health: 'up' },
    });
    expect(isReplay((await deliver('b'))[0]!)).toBe(true);
    const [refused] = await deliver('d');
    expect(refused?.status).toBe(503);
    expect(refused?.headers?.map(([name]) => name)).toContain('Retry-After');
    expect((await post('instance/kill', webhook('e'))).status).toBe(409);
    expect((await post('postgres/thaw')).status).toBe(204);
    expect((await deliver('d'))[0]?.status).toBe(201);
    expect(await leads()).toBe(4);

    expect((await post('postgres/freeze')).status).toBe(204);
    const servers = pids();
    sample.child.kill('SIGTERM');
    expect(await sample.exits()).toBe(0);
    expect(servers.filter(isAlive)).toEqual([]);
  });

  it('thaws Postgres when the sample is killed, and touches no servers of others', async () => {
    await launch();
    const servers = pids();
    const own = {
      DATABASE_URL: printed('Postgres', /(postgres:\S+)/),
      REDIS_URL: printed('Redis', /(redis:\S+)/),
    };
    const first = { sample, base };
    await launch({ ...own, HOST: '0.0.0.0', API_TOKEN: 'of my own' });
    expect(sample.output()).toContain('It asks for API_TOKEN');
    expect(sample.output()).not.toMatch(/of(?: |%20)my(?: |%20)own/);
    token.authorization = 'Bearer of my own';
    expect(await state()).toMatchObject({
      redis: { untouchable: expect.stringContaining('REDIS_URL') },
      postgres: { untouchable: expect.stringContaining('DATABASE_URL') },
    });
    for (const step of ['redis/kill', 'redis/start', 'postgres/freeze', 'postgres/thaw'])
      expect(await post(step)).toMatchObject({ status: 409, text: expect.stringMatching(/_URL/) });
    expect(servers.filter(isAlive)).toEqual(servers);
    // Others can reach it, so everything but the files of the page asks for the token.
    for (const path of ['/metrics', '/api/leads', '/story/state']) {
      expect((await get(path, {})).status).toBe(401);
      expect((await get(path)).status).toBe(200);
    }
    expect((await get('/', {})).status).toBe(200);
    const asked = await get('/idempotency');
    expect([asked.status, asked.headers['www-authenticate']]).toEqual([
      401,
      expect.stringMatching(/^Basic /),
    ]);
    const login = (text: string) => ({ authorization: `Basic ${Buffer.from(text).toString('base64')}` });
    expect((await get('/idempotency', login('me:dev-token'))).status).toBe(401);
    expect((await get('/idempotency', login('me:of my own'))).status).toBe(200);

    ({ sample, base } = first);
    token.authorization = 'Bearer dev-token';
    expect((await post('postgres/freeze')).status).toBe(204);
    sample.child.kill('SIGKILL');
    await eventually(() => expect(servers.filter(isAlive)).toEqual([]));
  });

  it('keeps pages of other sites out', async () => {
    await launch({ REDIS_SERVER: '/nowhere/redis-server' });
    const { host } = new URL(base);
    const step = (headers: Call['headers']): Promise<Answer> => post('redis/kill', undefined, headers);
    const ofOthers: Record<string, string>[] = [
      { origin: 'http://evil.example' },
      { origin: 'null' },
      { origin: base, 'sec-fetch-site': 'cross-site' },
      { origin: `http://localhost:1`, 'sec-fetch-site': 'same-site' },
      { host: 'evil.example' },
      { host: `evil.localhost.example:${new URL(base).port}`, origin: base },
    ];
    for (const headers of ofOthers) expect((await step(headers)).status).toBe(403);
    expect((await step({ authorization: 'Bearer wrong' })).status).toBe(401);
    for (const path of ['/', '/metrics', '/health', '/api/leads', '/story/state', '/idempotency'])
      expect((await get(path, { ...token, host: 'evil.example' })).status).toBe(403);
    // There is no Redis here, and this is the answer to its own page.
    expect(await step({ origin: base, 'sec-fetch-site': 'same-origin' })).toMatchObject({ status: 409 });
    expect((await get('/idempotency', {})).status).toBe(200);
    expect((await get('/', { host: host.replace('127.0.0.1', 'localhost') })).status).toBe(200);
    expect(await state()).toMatchObject({ redis: { health: 'disabled', untouchable: expect.any(String) } });
    for (const body of [
      { ...webhook('a'), times: 11 },
      { ...webhook('a'), times: 1, base: 'http://evil.example' },
    ])
      expect((await post('deliveries', body)).status).toBe(400);

    const page = await get('/', {});
    const served = [...page.text.matchAll(/(?:src|href)="(story\/[^"]+)"/g)].map(([, path]) => path!);
    const imported = readdirSync(FILES).filter((file) => file !== 'index.html');
    for (const path of new Set([...served, ...imported.map((file) => `story/page/${file}`)])) {
      const file = await get(`/${path}`, {});
      expect([path, file.status]).toEqual([path, 200]);
      expect(file.headers['content-security-policy']).toContain("default-src 'none'");
    }
    expect((await get('/story/page/..%2Fstory.controller.ts', {})).status).toBe(404);
    expect(page.headers).toMatchObject({
      'content-security-policy': expect.not.stringMatching(/unsafe|\*|https?:/),
      'cache-control': 'no-store',
      'x-frame-options': 'DENY',
    });
    const sources = readdirSync(FILES).map((file) => readFileSync(join(FILES, file), 'utf8'));
    expect(
      sources.filter((text) => /https?:|innerHTML|<script(?! type="module" src)| style=| on\w+="/.test(text)),
    ).toEqual([]);
  });
});
