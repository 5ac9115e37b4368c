import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hitRateText, lastHour } from '../../lib/cli/hit-rate';

describe('the hit rate of the last hour', () => {
  let prometheus: Server;
  let url: string;
  /** By query: the value that it answers with; none for a series that it does not have. */
  let values: Record<string, string>;
  let asked: { path: string; authorization: string | undefined }[];
  beforeAll(async () => {
    prometheus = createServer(({ url: target = '', headers: { authorization } }, response) => {
      const { pathname, searchParams } = new URL(target, 'http://localhost');
      asked.push({ path: pathname, authorization });
      const value = values[searchParams.get('query') ?? ''];
      const result = value === undefined ? [] : [{ metric: {}, value: [1_764_000_000.5, value] }];
      response.setHeader('Content-Type', 'application/json');
      response.end(JSON.stringify({ status: 'success', data: { resultType: 'vector', result } }));
    });
    await new Promise<void>((resolve) => prometheus.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(prometheus.address() as AddressInfo).port}`;
  });
  afterAll(() => void prometheus.close());
  beforeEach(() => {
    [values, asked] = [{}, []];
  });

  it('is the share of replays among replays and first requests, of all processes', async () => {
    values = {
      'sum(increase(idempotency_redis_hits[1h]))': '30.2',
      'sum(increase(idempotency_db_hits[1h]))': '9.8',
      'sum(increase(idempotency_misses[1h]))': '120',
    };
    const hour = await lastHour({ prometheusUrl: `${url.replace('//', '//me:hid%40den@')}/prometheus` });
    expect(hour).toEqual({ redisHits: 30.2, postgresHits: 9.8, firstRequests: 120, hitRate: 0.25 });
    expect(hitRateText(hour)).toBe(
      '25.0 % in the last hour (30 from Redis, 10 from Postgres, 120 first requests; all applications in this Prometheus)',
    );
    const authorization = `Basic ${Buffer.from('me:hid@den').toString('base64')}`;
    expect(asked).toEqual(Array(3).fill({ path: '/prometheus/api/v1/query', authorization }));
  });

  it('is that of one job, whatever its name is', async () => {
    const job = 'leads "eu" \\ 1';
    const asJob = String.raw`{job="leads \"eu\" \\ 1"}`;
    values = {
      [`sum(increase(idempotency_redis_hits${asJob}[1h]))`]: '1',
      [`sum(increase(idempotency_misses${asJob}[1h]))`]: '3',
      'sum(increase(idempotency_misses[1h]))': '1000',
    };
    const hour = await lastHour({ prometheusUrl: url, prometheusJob: job });
    expect(hour).toMatchObject({ job, firstRequests: 3, hitRate: 0.25 });
    expect(hitRateText(hour)).toMatch(/^25\.0 % .*; the job "leads .*"\)$/);
    expect(await lastHour({ prometheusUrl: url, prometheusJob: 'laeds' })).toEqual({
      unknown: 'not known: Prometheus has no metrics of this module for the job "laeds" in the last hour',
    });
  });

  it('takes a series that is missing, as without Redis, for none', async () => {
    values = {
      'sum(increase(idempotency_db_hits[1h]))': '1',
      'sum(increase(idempotency_misses[1h]))': '1',
    };
    expect(await lastHour({ prometheusUrl: url })).toMatchObject({ redisHits: 0, hitRate: 0.5 });
  });

  it('is none where there was no request', async () => {
    values = { 'sum(increase(idempotency_misses[1h]))': '0' };
    const hour = await lastHour({ prometheusUrl: url });
    expect(hour).toMatchObject({ firstRequests: 0, hitRate: undefined });
    expect(hitRateText(hour)).toBe('no requests in the last hour');
  });

  it('says why it is not known', async () => {
    expect(await lastHour({})).toEqual({ unknown: 'not known here: set PROMETHEUS_URL' });
    expect(await lastHour({ prometheusUrl: url })).toEqual({
      unknown: expect.stringContaining('no metrics of this module'),
    });
    expect(await lastHour({ prometheusUrl: 'http://me:hidden@127.0.0.1:1' })).toEqual({
      unknown: expect.stringMatching(/^not known: Prometheus cannot be asked: .*fetch failed$/),
    });
    expect(await lastHour({ prometheusUrl: 'http://me:hidden' })).toEqual({
      unknown: expect.not.stringContaining('hidden'),
    });
  });
});
