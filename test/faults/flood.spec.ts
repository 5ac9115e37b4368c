import { randomUUID } from 'node:crypto';
import { Agent } from 'node:http';
import type { IdempotencyModuleOptions } from '../../lib';
import { metricOf } from '../support/metrics';
import { call, type Answer } from '../support/http';
import { eventually } from '../support/eventually';
import type { Instance } from './rig/instance';
import { Rig } from './rig/rig';
import type { Work } from './rig/worker';

/** Of one key, by default. */
const MAX_WAITERS = 1_000;

/** Milliseconds that each way between an application and Postgres takes longer. */
const DISTANCE = 20;

/** Renewals: there is one every third of a lease. */
const MORE_THAN_A_LEASE = 4;

interface Flood {
  readonly requests: number;
  readonly key: (index: number) => string;
  readonly body?: (index: number) => unknown;
  readonly work?: Work;
  readonly agent?: Agent;
}

/** Sends all requests at once. A client that gets no answer has status 0. */
function flood(
  instance: Instance,
  { requests, key, body = () => ({}), work = {}, agent }: Flood,
): Promise<Pick<Answer, 'status' | 'headers' | 'text'>[]> {
  return Promise.all(
    Array.from({ length: requests }, (_, index) =>
      call(`${instance.url}/retry`, {
        headers: { 'idempotency-key': key(index), 'x-work': JSON.stringify({ effect: 'none', ...work }) },
        body: body(index),
        agent,
      }).catch(() => ({ status: 0, headers: {}, text: '' })),
    ),
  );
}

/** How many of the answers have which status. */
function statuses(answers: readonly Pick<Answer, 'status'>[]): Record<number, number> {
  const counts: Record<number, number> = {};
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
}

describe('a flood of requests', () => {
  let rig: Rig;
  afterEach(() => rig.stop());

  const start = async (options: IdempotencyModuleOptions = {}, instances = 1): Promise<Instance> => {
    rig = await Rig.start({
      options: {
        lease: '30s',
        waitTimeout: '10s',
        ...options,
        postgres: { timeout: '2s', ...options.postgres },
      },
      instances: Array.from({ length: instances }, () => 'both' as const),
    });
    const instance = rig.instance(0);
    await flood(instance, { requests: 4, key: () => randomUUID() }); // connections are there
    return instance;
  };
  const claims = (instance: Instance): number => instance.postgres.seen.get('claim') ?? 0;

  describe.each(['wait', 'reject'] as const)('under inFlight %s and onOutage execute', (inFlight) => {
    it.each([
      ['equal', 600, DISTANCE],
      ['different', 600, DISTANCE],
      ['equal', 3_000, 0],
    ] as const)(
      'of one key with %s bodies (%i at once, Postgres %i ms away) runs its handler once',
      async (bodies, requests, distance) => {
        const instance = await start({ inFlight, onOutage: 'execute' });
        if (distance > 0) await instance.postgres.set('delay', distance);
        const before = claims(instance);
        const key = randomUUID();
        const answers = await flood(instance, {
          requests,
          key: () => key,
          body: (index) => (bodies === 'equal' ? {} : { index }),
          work: { takes: 3_000 },
        });
        const seen = statuses(answers);
        expect(rig.executions(key)).toHaveLength(1);
        expect(
          Object.keys(seen)
            .map(Number)
            .filter((status) => ![201, 409, 422, ...(requests > MAX_WAITERS ? [503] : [])].includes(status)),
        ).toEqual([]);
        // Those that come when the handler has ended ask anew, many at a time.
        expect(claims(instance) - before).toBeLessThanOrEqual(requests > MAX_WAITERS ? 100 : 1);
      },
    );
  });

  it('of a used key with other bodies costs no other caller its lease, and no second process runs its handler', async () => {
    const instance = await start({ lease: '6s', waitTimeout: '60s' }, 2);
    const [used, other] = [randomUUID(), randomUUID()];
    await flood(instance, { requests: 1, key: () => used });
    const first = rig.send(instance, other, { hold: true, patience: 90_000 });
    await instance.handling(other);
    await instance.postgres.set('delay', DISTANCE);
    let flooding = true;
    const agent = new Agent({ keepAlive: true });
    const noise = Array.from({ length: 900 }, async (_, connection) => {
      const seen = new Set<number>();
      while (flooding) {
        const [answer] = await flood(instance, {
          requests: 1,
          key: () => used,
          body: () => ({ connection }),
          agent,
        });
        seen.add(answer!.status);
      }
      return [...seen];
    });
    // It would take the key over if it were free.
    const second = rig.send(rig.instance(1), other, { patience: 90_000 });
    const renewals = (): number => instance.postgres.seen.get('renew') ?? 0;
    const enough = renewals() + MORE_THAN_A_LEASE;
    await eventually(() => expect(renewals()).toBeGreaterThanOrEqual(enough), 60_000).finally(
      () => (flooding = false),
    );
    const noisy = (await Promise.all(noise)).flat();
    agent.destroy();
    instance.finish(other);
    const seen = await first;
    expect([seen.status, (await second).nonce]).toEqual([201, seen.nonce]);
    expect(rig.executions(other)).toHaveLength(1);
    expect([...new Set(noisy)]).toEqual([422]);
  });

  it('of one key with other bodies leaves 40 other callers served', async () => {
    const instance = await start();
    await instance.postgres.set('delay', DISTANCE);
    const key = randomUUID();
    const noise = flood(instance, {
      requests: 600,
      key: () => key,
      body: (index) => ({ index }),
      work: { takes: 500 },
    });
    const others = await flood(instance, { requests: 40, key: () => randomUUID() });
    const seen = statuses(others);
    await noise;
    expect(seen).toEqual({ 201: 40 });
    expect(rig.executions(key)).toHaveLength(1);
  });

  it('of 3,000 keys with a slow Postgres: what cannot be served in time is shed, and nothing runs unprotected', async () => {
    const instance = await start({ onOutage: 'execute', lease: '10s', postgres: { timeout: '4s' } });
    const held = randomUUID();
    const first = flood(instance, { requests: 1, key: () => held, work: { hold: true } });
    await instance.handling(held);
    // A statement takes 600 ms, far less than its time-out, also where the machine is busy.
    await instance.postgres.set('delay', 300);
    const keys = Array.from({ length: 3_000 }, () => randomUUID());
    const answers = await flood(instance, {
      requests: keys.length,
      key: (index) => keys[index]!,
      work: { unsynced: true },
    });
    const renewals = instance.postgres.seen.get('renew') ?? 0;
    instance.finish(held);
    const seen = statuses(answers);
    const shed = answers.filter(({ status }) => status === 503);
    const metrics = await call(`${instance.url}/metrics`, { method: 'GET' }).catch(() => ({ text: '' }));
    expect(statuses(await first)).toEqual({ 201: 1 });
    expect(Object.keys(seen).map(Number)).toEqual([201, 503]);
    expect(shed.length).toBeGreaterThan(0);
    for (const { headers, text } of shed) {
      expect(Number(headers['retry-after'])).toBeGreaterThan(0);
      expect(text).toContain(':overloaded"');
    }
    expect(metricOf(metrics.text, 'idempotency_requests_total', { outcome: 'unprotected' })).toBe(0);
    expect(metricOf(metrics.text, 'idempotency_shed_total')).toBe(shed.length);
    expect(renewals).toBeGreaterThan(0);
    expect(metricOf(metrics.text, 'idempotency_leases_lost_total')).toBe(0);
  });

  it('of 1,500 clients that hang up leaves nothing of theirs in memory, at once', async () => {
    const instance = await start({ waitTimeout: '60s' });
    const key = randomUUID();
    const first = rig.send(instance, key, { hold: true });
    await instance.handling(key);
    const body = { filling: 'x'.repeat(90_000) };
    const left = new AbortController();
    const duplicates = Array.from({ length: MAX_WAITERS }, () =>
      call(`${instance.url}/retry`, {
        headers: { 'idempotency-key': key, 'x-work': '{}' },
        body: {},
        signal: left.signal,
      }).catch(() => undefined),
    );
    const large = randomUUID();
    const second = call(`${instance.url}/retry`, {
      headers: { 'idempotency-key': large, 'x-work': JSON.stringify({ hold: true }) },
      body,
    });
    await instance.handling(large);
    duplicates.push(
      ...Array.from({ length: 500 }, () =>
        call(`${instance.url}/retry`, {
          headers: { 'idempotency-key': large, 'x-work': '{}' },
          body,
          signal: left.signal,
        }).catch(() => undefined),
      ),
    );
    const gauge = async (name: string): Promise<number> =>
      metricOf((await call(`${instance.url}/metrics`, { method: 'GET' })).text, name);
    await eventually(async () => expect(await gauge('idempotency_waiting_requests')).toBe(1_500), 30_000);
    expect(await gauge('idempotency_waiting_bytes')).toBeGreaterThan(500 * 90_000);
    left.abort();
    await Promise.all(duplicates);
    await eventually(async () => expect(await gauge('idempotency_waiting_requests')).toBe(0), 3_000);
    expect(await gauge('idempotency_waiting_bytes')).toBe(0);
    instance.finish(key);
    instance.finish(large);
    expect([(await first).status, (await second).status]).toEqual([201, 201]);
  });
});
