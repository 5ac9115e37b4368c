import { context, trace, type Span, type TracerProvider } from '@opentelemetry/api';
import { IORedisInstrumentation } from '@opentelemetry/instrumentation-ioredis';
import Redis from 'ioredis';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { RedisConnection } from '../../../lib/store/redis/connection/redis.connection';
import { RedisStore } from '../../../lib/store/redis/redis.store';
import { startRedis, type RunningRedis } from '../../../servers';
import { claimRequest, newClaim, response } from '../../support/redis-store';

/** What the instrumentation exports of a span; everything else of a tracer is left out. */
function exporter(exported: string[]): TracerProvider {
  const span = { setStatus: () => span, recordException: () => undefined, end: () => undefined };
  const startSpan = (name: string, { attributes }: { attributes?: object } = {}): Span => {
    exported.push(`${name} ${JSON.stringify(attributes)}`);
    return span as unknown as Span;
  };
  return { getTracer: () => ({ startSpan }) } as unknown as TracerProvider;
}

/** Jest has its own `require`, which the instrumentation does not see: what it would do to ioredis is done here. */
class Instrumentation extends IORedisInstrumentation {
  instrument(): void {
    for (const { patch } of this.init()) patch?.(Redis);
  }
  restore(): void {
    for (const { unpatch } of this.init()) unpatch?.(Redis);
  }
}

describe('tracing of ioredis with its defaults', () => {
  let redis: RunningRedis;
  let store: RedisStore;
  let connection: RedisConnection;
  let application: Redis;
  const exported: string[] = [];
  const instrumentation = new Instrumentation({ requireParentSpan: false });
  const SECRETS = /4111-1111|text\/x-secret/;
  const outcome = {
    ...response('card 4111-1111'),
    headers: [['X-Secret', 'text/x-secret']] as [string, string][],
  };

  beforeAll(async () => {
    redis = await startRedis();
    instrumentation.setTracerProvider(exporter(exported));
    instrumentation.instrument();
    application = new Redis(redis.url, { lazyConnect: true });
    connection = new RedisConnection(application, { timeout: 2_000 });
    await connection.open();
    store = new RedisStore({ connection, keyPrefix: 'idempotency:', ttl: 60_000 });
  });
  afterAll(async () => {
    await connection.close();
    application.disconnect();
    instrumentation.restore();
    await redis.stop();
  });
  beforeEach(() => exported.splice(0));

  it('exports arguments in clear: what the module has to hide from it', async () => {
    await application.eval('return 1', 0, 'card 4111-1111');
    expect(exported.join()).toMatch(SECRETS);
  });

  it('exports of a recorded response its size alone, in both roles', async () => {
    const result = await store.claim(claimRequest());
    if (!result.claimed) throw new Error('not claimed');
    await store.complete(result.claim, outcome);
    const copy = newClaim();
    await store.put({ claim: copy, state: 'completed', outcome, pending: false, ttl: 60_000 });
    expect(exported.filter((line) => /^eval(sha)? .*\[\d+ bytes\]/.test(line)).length).toBeGreaterThan(1);
    expect(exported.join()).not.toMatch(SECRETS);
    for (const { id } of [result.claim, copy]) expect(await store.find(id)).toMatchObject({ outcome });
  });

  it('nor do the diagnostics channels of ioredis itself', async () => {
    const published: string[] = [];
    const listen = (message: unknown): void => {
      const { command, args } = message as { command?: unknown; args?: unknown };
      published.push(JSON.stringify([command, args]));
    };
    const started = 'tracing:ioredis:command:start';
    subscribe(started, listen);
    await store.put({ claim: newClaim(), state: 'completed', outcome, pending: false, ttl: 60_000 });
    unsubscribe(started, listen);
    expect(published.join()).toContain('evalsha');
    expect(published.join()).not.toMatch(SECRETS);
    expect(trace.getSpan(context.active())).toBeUndefined();
  });
});
