import { Logger } from '@nestjs/common';
import fc from 'fast-check';
import { isIdempotencyError, StoreUnavailableError } from '../../lib/core/errors';
import { Protocol } from '../../lib/core/protocol';
import { recordId, type Claim, type Outcome } from '../../lib/core/record';
import type { ClaimRequest, ClaimResult, CompleteResult } from '../../lib/core/store';
import type { Metrics, RequestObserver } from '../../lib/core/ports';
import { resolveModuleOptions, resolvePolicy } from '../../lib/options/resolve';
import { ClaimOrder } from '../../lib/store/claim-order';
import type { PostgresProvider } from '../../lib/store/postgres/postgres.provider';
import type { RedisProvider } from '../../lib/store/redis/redis.provider';
import { TieredStoreService } from '../../lib/store/tiered-store.service';
import { MemoryData, MemoryStore, type MemoryStoreOptions } from '../../lib/store/memory/memory.store';
import { forgetDeadlines } from '../support/forget-deadlines';
import { ReferenceCache } from '../support/reference.cache';

// All time is the test's: the protocol's timers, its monotonic clock, and the stores' clock.
jest.mock('node:timers/promises', () => ({
  setTimeout: (ms: number, value: unknown, { signal }: { signal?: AbortSignal } = {}) =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => resolve(value), ms);
      signal?.addEventListener('abort', () => {
        clearTimeout(timer);
        reject(signal.reason as Error);
      });
    }),
}));
jest.mock('node:perf_hooks', () => ({ performance: { now: () => globalThis.performance.now() } }));

const LEASE = 300;
const RETENTION = 3_600_000;
const id = recordId('test', 'key');

/** What becomes of an operation on a store: mostly what it should. */
const fates = fc.infiniteStream(
  fc.oneof(
    { weight: 8, arbitrary: fc.constant('answered' as const) },
    { weight: 1, arbitrary: fc.constant('not sent' as const) },
    { weight: 1, arbitrary: fc.constant('reply lost' as const) },
  ),
);
type Fate = 'answered' | 'not sent' | 'reply lost';

/** What happens next: something that is under way moves on, or so many ms pass. */
const moves = fc.infiniteStream(
  fc.oneof(
    { weight: 6, arbitrary: fc.constant(0) },
    { weight: 2, arbitrary: fc.constantFrom(5, 25, 80, 200, 400) },
  ),
);

const requests = fc.array(
  fc.record({
    process: fc.nat(1),
    fingerprint: fc.constantFrom('a', 'a', 'a', 'b'),
    handler: fc.constantFrom('responds', 'responds', 'responds', 'is slow', 'throws'),
  }),
  { minLength: 2, maxLength: 4 },
);

const scenario = fc.record({
  scheduler: fc.scheduler(),
  requests,
  moves,
  fates,
  /** Whether Redis is read before a claim: either is safe at any time. */
  readsFirst: fc.infiniteStream(fc.boolean()),
  jitter: fc.infiniteStream(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })),
  /** The process that crashes, after so many moves. */
  crash: fc.option(fc.record({ process: fc.nat(1), after: fc.integer({ min: 2, max: 40 }) })),
  inFlight: fc.constantFrom('wait' as const, 'reject' as const),
  onOrphan: fc.constantFrom('retry' as const, 'reject' as const),
});
/** What breaks most: two processes with one request, the first of which outlasts its lease, and renewals that are lost. */
const contended = scenario.map((drawn): Scenario => ({
  ...drawn,
  crash: null,
  onOrphan: 'retry',
  requests: drawn.requests.map((_, i) => ({
    process: i % 2,
    fingerprint: 'a',
    handler: i === 0 ? 'is slow' : 'responds',
  })),
}));
type Scenario = typeof scenario extends fc.Arbitrary<infer T> ? T : never;

type Store = new (options: MemoryStoreOptions) => MemoryStore;

/** Runs a scenario on two processes, and throws where a promise is broken. */
async function play(
  {
    scheduler,
    requests: asked,
    moves: next,
    fates: fate,
    readsFirst,
    jitter,
    crash,
    inFlight,
    onOrphan,
  }: Scenario,
  Store: Store = MemoryStore,
): Promise<void> {
  jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick', 'queueMicrotask'] });
  forgetDeadlines();
  // Pauses have jitter: drawn as all else, or a seed would not give the same run again.
  const random = jest.spyOn(Math, 'random').mockImplementation(() => jitter.next().value as number);
  const now = (): number => performance.now();
  const data = new MemoryData();
  const cache = new ReferenceCache(now);
  const crashed = new Set<number>();
  let faults = true;
  jest.spyOn(ClaimOrder.prototype, 'readsFirst').mockImplementation(() => readsFirst.next().value as boolean);

  /** Every operation starts and ends when the scheduler says so; those of a crashed process never do. */
  const underWay = <S extends object>(process: number, tier: 'postgres' | 'redis', store: S): S =>
    new Proxy(store, {
      get: (target, name: string) => {
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== 'function' || name === 'announce') return member;
        const moment = async (what: string): Promise<void> => {
          await scheduler.schedule(Promise.resolve(), `${process} ${tier}.${name} ${what}`);
          if (crashed.has(process)) await new Promise(() => undefined);
        };
        return async (...args: unknown[]): Promise<unknown> => {
          await moment('is sent');
          // Until Postgres has it, a pending outcome is there to be read: the assumption of docs/internals/model.md.
          const spared = tier === 'redis' && cache.holdsPending;
          const becomes: Fate = faults && !spared ? (fate.next().value as Fate) : 'answered';
          if (becomes === 'not sent') throw new StoreUnavailableError(tier, name, 'not sent', false);
          const answer: unknown = await Reflect.apply(member, target, args);
          await moment('is answered');
          if (becomes === 'reply lost') throw new StoreUnavailableError(tier, name, 'reply lost');
          return answer;
        };
      },
    });

  const metrics = new Proxy({}, { get: () => () => undefined }) as Metrics & RequestObserver;
  const settings = resolveModuleOptions({});
  const policy = resolvePolicy(
    'test',
    { inFlight, onOrphan, lease: LEASE, waitTimeout: 2_000 },
    settings.defaults,
  );
  const stores: TieredStoreService[] = [];
  const protocols = await Promise.all(
    [0, 1].map(async (process) => {
      const arbiter = underWay(
        process,
        'postgres',
        new Store({ data, now, retention: RETENTION, tier: 'postgres' }),
      );
      const store = new TieredStoreService(
        settings,
        {
          open: async () => underWay(process, 'redis', cache),
          close: async () => undefined,
        } as unknown as RedisProvider,
        { open: async () => arbiter, close: async () => undefined } as unknown as PostgresProvider,
        metrics,
      );
      await store.open();
      stores.push(store);
      return new Protocol(store, metrics, settings.bounds);
    }),
  );

  const broken: string[] = [];
  const promise = (holds: boolean, what: string): void => {
    if (!holds) broken.push(what);
  };
  let executions = 0;
  let recorded: string | undefined;
  let interrupted: number[] = [];

  const ask = async ({ process, fingerprint, handler }: (typeof asked)[number]): Promise<string> => {
    const request = { id, fingerprint: fingerprint.repeat(64), policy };
    try {
      const result = await protocols[process]!.run(request, async ({ context: { attempt, fence } }) => {
        const execution = ++executions;
        const row = data.rows.get(id.hash);
        promise(
          row?.claim.fence === fence && row.outcome === undefined && row.leaseUntil > now(),
          'a handler starts under a row and a lease of its own',
        );
        promise(recorded === undefined, 'no handler starts once an outcome was answered');
        promise(interrupted.length === 0 || attempt > 1, 'a handler is told of an interrupted one before it');
        promise(interrupted.length === 0 || onOrphan === 'retry', 'onOrphan reject: at most one execution');
        interrupted.push(execution);
        await scheduler.schedule(Promise.resolve(), `${process} handler ${execution}`);
        if (handler === 'is slow') await new Promise((resolve) => setTimeout(resolve, LEASE * 1.5));
        if (crashed.has(process)) await new Promise(() => undefined);
        if (handler === 'throws') {
          // It was told of those before it, and gives the key back for all of them; if it has lost it, only for itself.
          const stands = data.rows.get(id.hash)?.claim.fence === fence;
          interrupted = stands ? [] : interrupted.filter((other) => other !== execution);
          throw new Error('handler failed');
        }
        return {
          kind: 'response',
          status: 201,
          headers: [],
          body: Buffer.from(`${fingerprint}${execution}`),
        };
      });
      if (crashed.has(process)) return 'no answer';
      const body = bodyOf(result.outcome);
      promise(body.startsWith(fingerprint), 'an answer is of the same request');
      promise(recorded === undefined || recorded === body, `one answer: ${recorded}, then ${body}`);
      recorded = body;
      return body;
    } catch (error) {
      if (isIdempotencyError(error)) return error.code;
      if (error instanceof Error && error.message === 'handler failed') return 'failed';
      throw error;
    }
  };

  try {
    const answers = asked.map((request) =>
      scheduler.schedule(Promise.resolve(), 'a request').then(() => ask(request)),
    );
    const settled = new Set<number>();
    answers.forEach((answer, i) => void answer.then(() => settled.add(i)));
    const gone = (i: number): boolean => settled.has(i) || crashed.has(asked[i]!.process);
    for (let move = 0; move < 2_000 && !asked.every((_, i) => gone(i)); move++) {
      if (crash?.after === move) crashed.add(crash.process);
      const ms = move < 400 ? (next.next().value as number) : move % 2 ? 0 : 40;
      if (move === 400) faults = false;
      if (ms === 0 && scheduler.count() > 0) await scheduler.waitNext(1);
      else jest.advanceTimersByTime(ms || 5);
      await new Promise(setImmediate);
    }
    promise(
      asked.every((_, i) => gone(i)),
      'every request is answered',
    );
    // Only the answers are awaited that a request waits for.
    await Promise.all(answers.filter((_, i) => settled.has(i)));
  } finally {
    random.mockRestore();
    jest.useRealTimers();
  }
  if (broken.length > 0) throw new Error(broken.join('; '));
}

const bodyOf = (outcome: Outcome | undefined): string =>
  outcome?.kind === 'response' ? outcome.body.toString() : '';

describe('the protocol over two tiers, in any interleaving', () => {
  beforeAll(() => {
    Logger.overrideLogger(false);
  });
  afterEach(() => jest.useRealTimers());

  it('runs one handler at a time, gives one answer, and answers every request', async () => {
    await fc.assert(
      fc.asyncProperty(scenario, (drawn) => play(drawn)),
      { numRuns: 1_000 },
    );
  });

  it.each<[string, Store]>([
    [
      'records an outcome whatever claim stands',
      class extends MemoryStore {
        override async complete(claim: Claim, outcome: Outcome): Promise<CompleteResult> {
          this.put({ claim, outcome });
          return { recorded: true };
        }
      },
    ],
    [
      'holds claims for less than their lease',
      class extends MemoryStore {
        override async claim(request: ClaimRequest): Promise<ClaimResult> {
          return super.claim({ ...request, lease: 1 });
        }
      },
    ],
    [
      'deletes an orphan whose takeover is given back',
      class extends MemoryStore {
        override async release(claim: Claim): Promise<boolean> {
          return this.options.data.rows.delete(claim.id.hash);
        }
      },
    ],
  ])('fails over a store that %s', async (_, Broken) => {
    const result = await fc.check(
      fc.asyncProperty(contended, (drawn) => play(drawn, Broken)),
      // Of this seed, as what one of them needs comes up once in hundreds of draws.
      { seed: 1, numRuns: 2_000, endOnFailure: true },
    );
    expect(result.failed).toBe(true);
  });
});
