import Redis from 'ioredis';
import { randomUUID } from 'node:crypto';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../../servers';
import type { Platform, TestApp } from '../../support/app';
import { metric } from '../../support/metrics';
import { bytesOf, headerOf, isReplayed, Wire, type WireResponse } from '../../support/wire';
import { eventually } from '../../support/eventually';
import { contentOf, maskedResponse } from './masked';
import { forgetRuns, runs } from './runs';
import { STAGE_NAMES, startStage, type StageName } from './stages';
import { TABLE, type Row } from './table';

jest.mock('../../../lib/store/cache-deadline', () =>
  jest.requireActual<object>('../../support/awaited-redis'),
);

/**
 * What a row came to: on one connection, asked without a key, then with one, then with Redis, then with Redis empty. Where
 * records are in memory, both retries are answered from there.
 */
interface Trial {
  readonly keyless: WireResponse | 'cut off';
  readonly first: WireResponse | 'cut off';
  readonly retries: readonly [WireResponse | 'cut off', WireResponse | 'cut off'];
}

const MODES: readonly [Platform, mode: 'with leases' | 'in transactions', where: 'servers' | 'memory'][] = [
  ['express', 'with leases', 'servers'],
  ['fastify', 'with leases', 'servers'],
  ['express', 'in transactions', 'servers'],
  ['fastify', 'in transactions', 'servers'],
  ['express', 'with leases', 'memory'],
  ['fastify', 'with leases', 'memory'],
  ['express', 'in transactions', 'memory'],
  ['fastify', 'in transactions', 'memory'],
];

describe.each(MODES)('how a response is repeated on %s %s, records in %s', (platform, mode, where) => {
  let postgres: RunningPostgres | undefined;
  let redis: RunningRedis | undefined;
  let cache: Redis | undefined;
  const apps = new Map<StageName, TestApp>();
  const hits = { redis: 0, postgres: 0 };

  beforeAll(async () => {
    if (where === 'servers') {
      [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
      cache = new Redis(redis.url);
    }
    const stores =
      postgres && redis ? { databaseUrl: postgres.url, redisUrl: redis.url } : { inMemory: true };
    // A copy that is not written in time is not written again.
    const patient = redis && { redis: { timeout: '5s' as const } };
    const options = { transaction: mode === 'in transactions', ...patient };
    // The first makes the table.
    const [firstStage, ...otherStages] = STAGE_NAMES;
    const start = async (name: StageName): Promise<unknown> =>
      apps.set(name, await startStage(name, platform, { ...stores, options }));
    await start(firstStage!);
    await Promise.all(otherStages.map(start));
  });
  afterAll(async () => {
    await Promise.all([...apps.values()].map((app) => app.close()));
    cache?.disconnect();
    await Promise.all([postgres?.stop(), redis?.stop()]);
  });
  beforeEach(forgetRuns);

  async function trial({ request, stage = 'plain', retry }: Row): Promise<Trial> {
    const { url } = apps.get(stage)!;
    const key = { 'Idempotency-Key': randomUUID() };
    let wire = await Wire.open(url);
    const asking = async (more: Record<string, string>): Promise<WireResponse | 'cut off'> => {
      const headers = { ...request.headers, ...more };
      const response = await wire.ask({ ...request, headers }).catch(() => 'cut off' as const);
      if (response === 'cut off') wire = await Wire.open(url);
      return response;
    };
    const ask = (): Promise<WireResponse | 'cut off'> => asking(key);
    try {
      const keyless = await asking({});
      forgetRuns();
      const first = await ask();
      if (!cache)
        return {
          keyless,
          first,
          retries: [await counting('postgres', ask), await counting('postgres', ask)],
        };
      const redisCache = cache;
      // Redis is told after the response has been sent, and could be told after it was emptied.
      if (mode === 'with leases' || retry !== 'runs again')
        await eventually(async () => expect(await redisCache.dbsize()).toBeGreaterThan(0));
      const warm = await counting('redis', ask);
      await redisCache.flushall();
      return { keyless, first, retries: [warm, await counting('postgres', ask)] };
    } finally {
      wire.leave();
    }
  }

  /** Adds to `hits` what the tier answered meanwhile. */
  async function counting<T>(tier: keyof typeof hits, ask: () => Promise<T>): Promise<T> {
    const name = { redis: 'idempotency_redis_hits', postgres: 'idempotency_db_hits' }[tier];
    const before = await metric(name);
    const answer = await ask();
    hits[tier] += (await metric(name)) - before;
    return answer;
  }

  const rows = TABLE.filter(({ only = platform }) => only === platform).filter(
    // These rows lose their lease in Postgres, to another owner.
    ({ request }) =>
      (mode === 'with leases' && where === 'servers') || !request.path.startsWith('/lost-lease'),
  );

  it.each(rows)('$style: the first response is as without a key; a retry: $retry', async (row) => {
    const { keyless, first, retries } = await trial(row);
    expect(first === 'cut off' ? first : first.status).toBe(row.first);
    if (row.body) expect(contentOf(first as WireResponse)).toMatch(row.body);
    if (row.stage === 'compressed') expect(header(first, 'content-encoding')).toBe('gzip');
    expect(seen(first)).toBe(seen(keyless));
    for (const retry of retries) EXPECTED[row.retry](first, retry);
    expect(runs.handler).toBe(row.retry === 'runs again' ? 3 : (row.runs ?? 1));
    expect(runs.interceptor).toBe(row.interceptorRuns ?? 0);
  });

  it('compression follows the retry on Express, and the first request on Fastify', async () => {
    const headers = { 'Idempotency-Key': randomUUID() };
    const wire = await Wire.open(apps.get('compressed')!.url);
    const path = '/values/object';
    const first = await wire.ask({ path, headers: { ...headers, 'Accept-Encoding': 'gzip' } });
    const retry = await wire.ask({ path, headers });
    wire.leave();
    expect(isReplayed(retry)).toBe(true);
    expect(contentOf(retry)).toBe(contentOf(first));
    expect(header(retry, 'content-encoding')).toBe(platform === 'express' ? undefined : 'gzip');
  });

  it('an uploaded file is no part of what is compared, and that of a retry is not read', async () => {
    const { request } = rows.find(({ style }) => style.startsWith('file upload'))!;
    const headers = { ...request.headers, 'Idempotency-Key': randomUUID() };
    const wire = await Wire.open(apps.get('plain')!.url);
    const first = await wire.ask({ ...request, headers });
    const retry = await wire.ask({
      ...request,
      headers,
      body: request.body!.toString().replace('leads', 'other'),
    });
    wire.leave();
    expect(isReplayed(retry)).toBe(true);
    expect(bytesOf(retry, [])).toBe(bytesOf(first));
    expect(runs.handler).toBe(1);
  });

  it(`was answered from ${where === 'servers' ? 'both tiers' : 'memory'}`, () => {
    const repeated = rows.filter(({ retry }) => retry === 'the same').length;
    if (where === 'memory') {
      expect(hits).toEqual({ redis: 0, postgres: 2 * repeated });
      return;
    }
    expect(hits.postgres).toBe(repeated);
    expect(hits.redis).toBeGreaterThan(repeated / 2);
  });
});

const EXPECTED: Record<
  Row['retry'],
  (first: WireResponse | 'cut off', retry: WireResponse | 'cut off') => void
> = {
  'the same': (first, retry) => {
    if (first === 'cut off' || retry === 'cut off') throw new Error('There is no response to compare');
    expect(isReplayed(first)).toBe(false);
    expect(isReplayed(retry)).toBe(true);
    expect(bytesOf(retry, [])).toBe(bytesOf(first));
  },
  '409, not stored': (_, retry) => {
    if (retry === 'cut off') throw new Error('There is no response to a retry');
    expect(retry.status).toBe(409);
    expect(headerOf(retry.headerLines, 'content-type')).toMatch(/^application\/problem\+json/);
    expect(JSON.parse(retry.body.toString())).toMatchObject({
      type: 'urn:problem-type:nestjs-idempotency:outcome-not-stored',
      detail: expect.stringMatching(/was executed before.*not executed again/s),
    });
  },
  'runs again': (first, retry) => {
    if (first === 'cut off' || retry === 'cut off') expect(retry).toBe(first);
    else {
      expect(retry.status).toBe(first.status);
      expect(isReplayed(retry)).toBe(false);
    }
  },
};

function header(response: WireResponse | 'cut off', name: string): string | undefined {
  return response === 'cut off' ? undefined : headerOf(response.headerLines, name);
}

function seen(response: WireResponse | 'cut off'): string {
  return response === 'cut off' ? response : maskedResponse(response);
}
