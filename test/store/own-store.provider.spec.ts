import { randomUUID } from 'node:crypto';
import { Controller, Injectable, Post } from '@nestjs/common';
import {
  Idempotent,
  IdempotencyHealth,
  StoreUnavailableError,
  UnreadableRecordError,
  type Claim,
  type ClaimRequest,
  type ClaimResult,
  type CompleteResult,
  type IdempotencyModuleOptions,
  type IdempotencyStore,
  type Outcome,
} from '../../lib';
import { MemoryData, MemoryStore } from '../../lib/store/memory/memory.store';
import { startApp, type Platform, type TestApp, type TestAppOptions } from '../support/app';
import { eventually } from '../support/eventually';
import { comparable, isReplay, type Answer } from '../support/http';
import { KeptLog } from '../support/log';
import { metric } from '../support/metrics';

let runs = 0;
let release: () => void;

@Controller()
class LeadsController {
  @Post('leads')
  @Idempotent()
  create(): number {
    return ++runs;
  }

  @Post('slow')
  @Idempotent({ lease: '3s' })
  async slow(): Promise<number> {
    await new Promise<void>((resolve) => (release = resolve));
    return ++runs;
  }

  @Post('unprotected')
  @Idempotent({ onOutage: 'execute' })
  unprotected(): number {
    return ++runs;
  }
}

/** A store as an application may bring it. */
@Injectable()
class LeadStore implements IdempotencyStore {
  private readonly records = new MemoryStore({
    data: new MemoryData(),
    now: () => performance.now(),
    retention: 60_000,
  });
  /** What the verbs of these names fail with. */
  readonly failing: Partial<Record<keyof IdempotencyStore, Error>> = {};

  async claim(request: ClaimRequest): Promise<ClaimResult> {
    if (this.failing.claim) throw this.failing.claim;
    return this.records.claim(request);
  }

  async complete(claim: Claim, outcome: Outcome): Promise<CompleteResult> {
    if (this.failing.complete) throw this.failing.complete;
    return this.records.complete(claim, outcome);
  }

  async find(...args: Parameters<IdempotencyStore['find']>) {
    if (this.failing.find) throw this.failing.find;
    return this.records.find(...args);
  }

  readonly release = this.records.release.bind(this.records);
  readonly renew = this.records.renew.bind(this.records);
  readonly forget = this.records.forget.bind(this.records);
}

const STORE = Symbol('store');
const unavailable = (operation: string) => new StoreUnavailableError('store', operation, 'it is away', false);

describe.each<Platform>(['express', 'fastify'])(
  'an application with a store of its own, on %s',
  (platform) => {
    let app: TestApp | undefined;
    const log = new KeptLog();
    const start = async (options: IdempotencyModuleOptions, more: TestAppOptions = {}): Promise<TestApp> =>
      (app = await startApp({
        platform,
        controllers: [LeadsController],
        options,
        settings: { logger: log },
        ...more,
      }));

    beforeEach(() => {
      runs = 0;
      log.lines.length = 0;
    });
    afterEach(async () => {
      await app?.close();
      app = undefined;
    });

    const send = (key: string, path = '/leads'): Promise<Answer> =>
      app!.call(path, { headers: { 'idempotency-key': key } });

    it.each<[string, IdempotencyModuleOptions, TestAppOptions]>([
      ['an instance', { store: new LeadStore() }, {}],
      ['its class', { store: LeadStore }, { providers: [LeadStore] }],
      ['a symbol', { store: STORE }, { providers: [{ provide: STORE, useClass: LeadStore }] }],
      ['memory, by name', { store: 'memory' }, {}],
    ])('repeats responses from it, without Redis and Postgres: %s', async (_, options, more) => {
      await start(options, more);
      const key = randomUUID();
      const first = await send(key);
      const retries = await Promise.all([send(key), send(key)]);
      expect([first.status, first.text, runs]).toEqual([201, '1', 1]);
      expect(isReplay(first)).toBe(false);
      for (const retry of retries) {
        expect(isReplay(retry)).toBe(true);
        expect(comparable(retry)).toEqual(comparable(first));
      }
      expect(await app!.app.get(IdempotencyHealth).check()).toEqual({
        redis: 'disabled',
        postgres: 'disabled',
        store: 'up',
      });
      expect(await metric('idempotency_store_up')).toBe(1);
    });

    it('warns loudly of the one in memory, and of no other', async () => {
      await start({ store: 'memory' });
      expect(log.lines.join()).toMatch(/store: 'memory'.*a handler can run twice after a restart/i);
      await app!.close();
      log.lines.length = 0;
      await start({ store: new LeadStore() });
      expect(log.lines.join()).not.toContain('memory');
    });

    it('refuses new keys while it is away, or runs them unprotected, by policy', async () => {
      const store = new LeadStore();
      await start({ store });
      store.failing.claim = unavailable('claim');
      const refused = await send(randomUUID());
      expect([refused.status, runs]).toEqual([503, 0]);
      expect(refused.headers['retry-after']).toBeDefined();
      expect((await send(randomUUID(), '/unprotected')).text).toBe('1');
      expect(log.lines.join()).toContain('The store is unavailable (claim): it is away');
    });

    it('runs no handler where a record cannot be read, under any policy', async () => {
      const store = new LeadStore();
      await start({ store });
      store.failing.claim = new UnreadableRecordError('store', 'claim', 'written by something else');
      for (const path of ['/leads', '/unprotected'])
        expect((await send(randomUUID(), path)).status).toBe(503);
      expect(runs).toBe(0);
      expect(await metric('idempotency_store_up')).toBe(1); // it has answered
    });

    it('keeps an outcome that it could not take, and brings it there once it is back', async () => {
      const store = new LeadStore();
      await start({ store });
      store.failing.complete = unavailable('complete');
      const key = randomUUID();
      expect((await send(key)).status).toBe(503);
      store.failing.complete = undefined;
      const retry = await eventually(async () => {
        const answer = await send(key);
        expect(answer.status).toBe(201);
        return answer;
      });
      expect([retry.text, isReplay(retry), runs]).toEqual(['1', true, 1]);
    });

    it('says so where its renewals give something else than a set, and goes on', async () => {
      const store = new LeadStore();
      const { renew } = store;
      const asList = async (...args: Parameters<typeof renew>): Promise<string[]> => [
        ...(await renew(...args)),
      ];
      await start({ store: Object.assign(store, { renew: asList }) });
      const answer = send(randomUUID(), '/slow');
      await eventually(() =>
        expect(log.lines.join()).toContain('renew() of a store has to give a Set of tokens'),
      );
      release();
      expect((await answer).status).toBe(201);
    });

    it('says in its health that it is down', async () => {
      const store = new LeadStore();
      await start({ store });
      store.failing.find = unavailable('find');
      expect(await app!.app.get(IdempotencyHealth).check()).toMatchObject({ store: 'down' });
    });

    it.each<[string, IdempotencyModuleOptions, TestAppOptions, RegExp]>([
      [
        'is not provided',
        { store: LeadStore },
        {},
        /no provider of `store: LeadStore`.*Provide it in a module/,
      ],
      [
        'is no store',
        { store: STORE },
        { providers: [{ provide: STORE, useValue: { claim: () => undefined } }] },
        /`store: Symbol\(store\)` is not an IdempotencyStore \(an object with claim, complete/,
      ],
    ])('does not start where what it names %s', async (_, options, more, message) => {
      await expect(start(options, more)).rejects.toThrow(message);
    });
  },
);
