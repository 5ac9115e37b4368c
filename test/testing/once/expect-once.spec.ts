import { randomUUID } from 'node:crypto';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  Body,
  ConflictException,
  Controller,
  Module,
  Post,
  Res,
  type INestApplication,
} from '@nestjs/common';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import {
  fromBody,
  Idempotent,
  IdempotencyClaim,
  IdempotencyModule,
  IdempotencyService,
  type IdempotencyContext,
} from 'nestjs-idempotency';
import { expectOnce, IdempotencyTesting, type OnceRequest } from 'nestjs-idempotency/testing';
import { call } from '../../support/http';

/** What handlers do beside answering. */
const leads = new Set<number>();
let effects = 0;
let runs = 0;

const effect = (): number => {
  effects += 1;
  return ++runs;
};

@Controller()
class LeadsController {
  @Post('settled')
  @Idempotent({ onOrphan: 'reject' })
  settled(): { run: number } {
    return { run: effect() };
  }

  @Post('leased')
  @Idempotent()
  leased(): { run: number } {
    return { run: effect() };
  }

  /** Looks first where an earlier attempt may have done it. */
  @Post('careful')
  @Idempotent()
  careful(@Body('id') id: number, @IdempotencyClaim() claim?: IdempotencyContext): { id: number } {
    if (!claim || claim.attempt === 1 || !leads.has(id)) effect();
    leads.add(id);
    return { id };
  }

  @Post('transactional')
  @Idempotent({ transaction: true })
  transactional(): { run: number } {
    return { run: effect() };
  }

  @Post('impatient')
  @Idempotent({ inFlight: 'reject', onOrphan: 'reject' })
  async impatient(): Promise<{ run: number }> {
    const run = effect();
    await new Promise((resolve) => setImmediate(resolve));
    return { run };
  }

  @Post('webhook')
  @Idempotent({ key: fromBody('id'), required: true, onOrphan: 'reject' })
  webhook(): { run: number } {
    return { run: effect() };
  }

  @Post('forgotten')
  forgotten(): { run: number } {
    return { run: effect() };
  }

  @Post('new-keys')
  @Idempotent({ key: () => randomUUID() })
  newKeys(): { run: number } {
    return { run: effect() };
  }

  @Post('other-fingerprints')
  @Idempotent({ fingerprint: () => randomUUID() })
  otherFingerprints(): { run: number } {
    return { run: effect() };
  }

  @Post('refused')
  @Idempotent()
  refused(): never {
    effect();
    throw new ConflictException('there is such a lead');
  }

  @Post('unrecorded')
  @Idempotent({ record: (status) => status === 200 })
  unrecorded(): { run: number } {
    return { run: effect() };
  }

  @Post('too-large')
  @Idempotent({ maxBodySize: 1 })
  tooLarge(): { run: number } {
    return { run: effect() };
  }

  @Post('doubled')
  @Idempotent({ onOrphan: 'reject' })
  doubled(): { run: number } {
    effect();
    return { run: effect() };
  }

  @Post('raw')
  @Idempotent({ onOrphan: 'reject', replayHeaders: ['content-type'] })
  raw(@Res() response: { header(name: string, value: string): unknown; send(body: string): unknown }): void {
    response.header('X-Run', String(effect()));
    response.send('raw');
  }
}

@Module({ imports: [IdempotencyModule.forRoot()], controllers: [LeadsController] })
class AppModule {}

const keyed = (path: string, more: Partial<OnceRequest> = {}): OnceRequest => ({
  path,
  headers: { 'Idempotency-Key': 'k-1' },
  ...more,
});
const counted = { effects: { leads: () => effects } };

describe.each(['express', 'fastify'])('expectOnce() on %s', (platform) => {
  describe.each(['initialised', 'listening'])('with an application that is %s', (state) => {
    let app: INestApplication;

    beforeAll(async () => {
      const built = await IdempotencyTesting.replaceIn(
        Test.createTestingModule({ imports: [AppModule] }),
      ).compile();
      app =
        platform === 'fastify'
          ? built.createNestApplication(new FastifyAdapter(), { logger: false })
          : built.createNestApplication({ logger: false });
      await (state === 'listening' ? app.listen(0, '127.0.0.1') : app.init());
    });
    afterAll(() => app.close());
    beforeEach(() => {
      leads.clear();
      effects = 0;
      runs = 0;
      IdempotencyTesting.of(app).reset();
    });

    it.each([
      ['with `onOrphan: reject`', keyed('/settled')],
      ['whose second attempt looks first', keyed('/careful', { body: { id: 7 } })],
      ['in the transaction mode', keyed('/transactional')],
      ['that refuses duplicates in flight', keyed('/impatient')],
      ['with its key in the body', { path: '/webhook', body: { id: 'evt_1' } }],
      ['with its key in a form', { path: '/webhook', body: new URLSearchParams({ id: 'evt_2' }) }],
      ['with headers that are not replayed', keyed('/raw')],
    ])('passes for a handler %s', async (_, request) => {
      const answer = await expectOnce(app, request, counted);
      expect(answer.status).toBe(201);
    });

    it('tries one request after the other, also where they are expected at once', async () => {
      const paths = ['/settled', '/transactional', '/impatient'];
      await Promise.all(paths.map((path) => expectOnce(app, keyed(path), counted)));
    });

    it('gives the first answer, and leaves records and server as they were', async () => {
      const testing = IdempotencyTesting.of(app);
      testing.next('reply lost');
      await expectOnce(app, keyed('/settled'), { scenarios: ['after a lost reply'] });
      const before = testing.records();
      const answer = await expectOnce(app, keyed('/settled'), { duplicates: 4, ...counted });
      expect([answer.status, JSON.parse(answer.text)]).toEqual([201, { run: 2 }]);
      expect(answer.headers['content-type']).toMatch(/json/);
      expect(testing.records()).toEqual(before);
      expect((app.getHttpServer() as { listening: boolean }).listening).toBe(state === 'listening');
      expect(runs).toBe(5); // once in each of its four cases
    });

    it('passes for a function that works with execute()', async () => {
      const service = app.get(IdempotencyService);
      const work = (): Promise<{ run: number }> =>
        service.execute('job-1', () => ({ run: effect() }), { onOrphan: 'reject' });
      expect(await expectOnce(app, work, counted)).toEqual({ run: 1 });
      const careful = (): Promise<number> =>
        service.execute('job-2', ({ attempt }) => (attempt === 1 ? effect() : runs));
      expect(await expectOnce(app, careful, counted)).toBe(5);
    });

    it('passes for a function that sends the request itself', async () => {
      const path = (): string => {
        const { port } = (app.getHttpServer() as Server).address() as AddressInfo;
        return `http://127.0.0.1:${port}/settled`;
      };
      const headers = { 'Idempotency-Key': 'k-1' };
      const answer = await expectOnce(app, () => fetch(path(), { method: 'POST', headers }), counted);
      expect([answer.status, await answer.json()]).toEqual([201, { run: 1 }]);
      await expectOnce(app, () => call(path(), { headers }), counted);
    });

    it.each<[what: string, request: OnceRequest, message: RegExp]>([
      [
        'a handler whose effect a crash doubles',
        keyed('/leased'),
        /sent after a crash\.\n- `leads` happened 2 times\..*`onOrphan: 'retry'` ran the handler again.*`transaction: true`/s,
      ],
      ['a handler that does it twice', keyed('/doubled'), /sent twice\.\n- `leads` happened 2 times\.$/],
      [
        'a route without @Idempotent()',
        keyed('/forgotten'),
        /sent twice\.\n- No key was claimed.*lacks @Idempotent/,
      ],
      ['a request without a key', { path: '/leased' }, /No key was claimed.*the request has no key/],
      [
        'a request that lacks a key',
        { path: '/webhook', body: {} },
        /refused before a key was claimed: 400 .*key/,
      ],
      ['a path that is not there', keyed('/nowhere'), /refused before a key was claimed: 404/],
      [
        'a key that changes',
        keyed('/new-keys'),
        /The handler ran 3 times\. The tries were taken for different requests: key "[-0-9a-f]{36}" in scope "POST \/new-keys"; key/,
      ],
      [
        'a fingerprint that changes',
        keyed('/other-fingerprints'),
        /Try 2 got another answer: 422 .*Try 1 got: 201/,
      ],
      [
        'an answer that is recorded by no rule',
        keyed('/unrecorded'),
        /is not recorded.*each retry runs the handler again/,
      ],
      [
        'an answer that cannot be kept',
        keyed('/too-large'),
        /Try 2 got another answer: 409 .*not executed again/s,
      ],
      ['an answer of the wrong kind', keyed('/refused'), /not recorded|`leads` happened 2/],
    ])('fails for %s', async (_, request, message) => {
      const failed = expectOnce(app, request, counted);
      await expect(failed).rejects.toMatchObject({ name: 'Error' });
      await expect(failed).rejects.toThrow(message);
      await expect(failed).rejects.toThrow(`expectOnce: POST ${request.path} did not happen once`);
    });

    it('fails where a retry runs the handler again, as records are lost', async () => {
      const { store } = IdempotencyTesting.of(app);
      const claim = store.claim.bind(store);
      const forgetful = jest.spyOn(store, 'claim').mockImplementation(async (request) => {
        const record = await store.find(request.id);
        if (record) await store.forget(record);
        return claim(request);
      });
      try {
        const failed = expectOnce(app, keyed('/settled'), { duplicates: 3, ...counted });
        await expect(failed).rejects.toThrow(/sent twice\.\n- The handler ran 4 times\./);
        await expect(failed).rejects.toThrow(
          /- Try 2 got another answer: 201 \{"run":2\}\. Try 1 got: 201 \{"run":1\}/,
        );
        await expect(failed).rejects.toThrow(/- `leads` happened 4 times\./);
      } finally {
        forgetful.mockRestore();
      }
    });

    it('fails for a function that claims no key, or fails', async () => {
      await expect(expectOnce(app, () => effect())).rejects.toThrow(
        /No key was claimed: the function neither/,
      );
      const service = app.get(IdempotencyService);
      const failing = expectOnce(app, function charge() {
        return service.execute('job-1', () => {
          throw new Error('no money');
        });
      });
      await expect(failing).rejects.toThrow(
        /expectOnce: charge did not happen once[^]*It failed: Error: no money/,
      );
      await expect(expectOnce(app, () => Promise.reject(new Error('no key')))).rejects.toThrow(
        /It failed before a key was claimed: Error: no key/,
      );
    });

    it('runs only the cases that it is told', async () => {
      await expectOnce(app, keyed('/leased'), {
        ...counted,
        scenarios: ['twice', 'at once', 'after a lost reply'],
      });
      expect(runs).toBe(3);
    });
  });
});

describe('expectOnce()', () => {
  it.each([
    [{ duplicates: 0 }, /option "duplicates" is 0/],
    [{ duplicates: 1.5 }, /option "duplicates" is 1.5/],
    [{ scenarios: [] }, /option "scenarios" is \[\]/],
    [{ scenarios: ['thrice'] }, /option "scenarios" is \[ 'thrice' \].*'after a crash'/],
  ])('refuses the options %j', async (options, message) => {
    const app = {} as INestApplication;
    await expect(expectOnce(app, keyed('/leased'), options as never)).rejects.toThrow(message);
  });

  it('refuses an application with its own stores', async () => {
    const app = await Test.createTestingModule({
      imports: [IdempotencyModule.forRoot({ store: 'memory' })],
    }).compile();
    await expect(expectOnce(app, () => undefined)).rejects.toThrow(/IdempotencyTesting\.replaceIn\(\)/);
  });
});
