import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { Controller, Post, Version, VersioningType, VERSION_NEUTRAL } from '@nestjs/common';
import { RouteConstraints } from '@nestjs/platform-fastify';
import { httpScope, Idempotent, type HttpCaller } from '../../../../lib';
import { startPostgres, type RunningPostgres } from '../../../../servers';
import { startApp, type TestApp } from '../../../support/app';
import { isReplay, type Answer } from '../../../support/http';

type Headers = Record<string, string>;

function answer(handler: string): { handler: string; nonce: string } {
  return { handler, nonce: randomUUID() };
}

@Controller('pay')
class PayController {
  @Post()
  @RouteConstraints({ host: 'one.example.com' })
  @Idempotent()
  one(): unknown {
    return answer('one');
  }

  @Post()
  @RouteConstraints({ host: 'two.example.com:8080' })
  @Idempotent()
  two(): unknown {
    return answer('two');
  }

  @Post()
  @RouteConstraints({ host: /\.shops\.example\.com$/ })
  @Idempotent()
  shops(): unknown {
    return answer('shops');
  }

  @Post()
  @Idempotent()
  others(): unknown {
    return answer('others');
  }

  @Post('regions')
  @RouteConstraints({ region: 'eu' })
  @Idempotent()
  europe(): unknown {
    return answer('eu');
  }

  @Post('regions')
  @RouteConstraints({ region: 'us' })
  @Idempotent()
  america(): unknown {
    return answer('us');
  }

  @Post('shards')
  @RouteConstraints({ shard: 'any' })
  @Idempotent()
  shards(): unknown {
    return answer('shards');
  }

  @Post('plans')
  @RouteConstraints({ plan: 'free' })
  @Idempotent()
  free(): unknown {
    return answer('free');
  }

  @Post('plans')
  @RouteConstraints({ plan: 'paid' })
  @Idempotent()
  paid(): unknown {
    return answer('paid');
  }

  @Post('versions')
  @Version(['1', '2'])
  @Idempotent()
  versions(): unknown {
    return answer('1 or 2');
  }

  @Post('versions')
  @Version(VERSION_NEUTRAL)
  @Idempotent()
  neutral(): unknown {
    return answer('neutral');
  }
}

@Controller('tenants')
class TenantsController {
  @Post('hosts')
  @RouteConstraints({ host: 'any' })
  @Idempotent()
  hosts(): unknown {
    return answer('hosts');
  }

  @Post('zones')
  @RouteConstraints({ zone: 'any' })
  @Idempotent()
  zones(): unknown {
    return answer('zones');
  }

  @Post('places')
  @RouteConstraints({ place: 'any' })
  @Idempotent()
  places(): unknown {
    return answer('places');
  }
}

@Controller({ path: 'accounts', host: ':account.example.com' })
class AccountsController {
  @Post()
  @RouteConstraints({ host: 'any' })
  @Idempotent()
  create(): unknown {
    return answer('accounts');
  }
}

interface Storage {
  get(value: unknown): unknown;
  set(value: unknown, handler: unknown): void;
}

const exact = (): Storage => {
  const handlers = new Map<unknown, unknown>();
  return {
    get: (value) => handlers.get(value) ?? null,
    set: (value, handler) => handlers.set(value, handler),
  };
};

/** One handler for every value. */
const anything = (): Storage => {
  let only: unknown;
  return { get: (value) => (value === undefined ? null : only), set: (_, handler) => (only = handler) };
};

const strategy = (name: string, header: string, storage: () => Storage) => ({
  name,
  storage,
  validate: () => undefined,
  deriveConstraint: (request: IncomingMessage) => request.headers[header] as unknown,
});

/** Gives data, not a text. */
const place = {
  ...strategy('place', 'x-place', anything),
  deriveConstraint: (request: IncomingMessage) => ({ place: request.headers['x-place'] }),
};

/** Answers through a callback, as one that asks a server does. */
const later = {
  ...strategy('plan', 'x-plan', exact),
  deriveConstraint: (
    request: IncomingMessage,
    _: unknown,
    done: (error: null, value: unknown) => void,
  ): void => done(null, request.headers['x-plan']),
};

describe('what selects a handler on Fastify besides method and path', () => {
  let postgres: RunningPostgres;
  let app: TestApp;
  let key: string;

  beforeAll(async () => {
    postgres = await startPostgres();
    app = await startApp({
      platform: 'fastify',
      databaseUrl: postgres.url,
      controllers: [PayController],
      fastify: {
        routerOptions: {
          constraints: {
            region: strategy('region', 'x-region', exact),
            shard: strategy('shard', 'x-shard', anything),
            plan: later,
          },
        },
      },
      configure: (nest) => void nest.enableVersioning({ type: VersioningType.HEADER, header: 'X-Version' }),
    });
  });
  afterAll(async () => {
    await app.close();
    await postgres.stop();
  });
  beforeEach(() => {
    key = randomUUID();
  });

  const post = (path: string, headers: Headers): Promise<Answer> =>
    app.call(path, { body: {}, headers: { 'idempotency-key': key, ...headers } });

  it.each<[string, string, [Headers, string, HttpCaller][]]>([
    [
      'hosts',
      '/pay',
      [
        [{ host: 'one.example.com' }, 'one', { host: 'one.example.com' }],
        [{ host: 'two.example.com:8080' }, 'two', { host: 'two.example.com:8080' }],
        [{ host: 'ann.shops.example.com' }, 'shops', { host: 'ann.shops.example.com' }],
        [{ host: 'bob.shops.example.com' }, 'shops', { host: 'BOB.shops.example.com' }],
        [{ host: 'three.example.com' }, 'others', {}],
      ],
    ],
    [
      'values of a header',
      '/pay/regions',
      [
        [{ 'x-region': 'eu' }, 'eu', { constraints: { region: 'eu' } }],
        [{ 'x-region': 'us' }, 'us', { constraints: { region: 'us' } }],
      ],
    ],
    [
      'values that one handler serves',
      '/pay/shards',
      [
        [{ 'x-shard': '1' }, 'shards', { constraints: { shard: '1' } }],
        [{ 'x-shard': '2' }, 'shards', { constraints: { shard: '2' } }],
      ],
    ],
    [
      'values that are derived later',
      '/pay/plans',
      [
        [{ 'x-plan': 'free' }, 'free', { constraints: { plan: 'free' } }],
        [{ 'x-plan': 'paid' }, 'paid', { constraints: { plan: 'paid' } }],
      ],
    ],
    [
      'versions, also where one handler serves several',
      '/pay/versions',
      [
        [{ 'x-version': '1' }, '1 or 2', { version: '1' }],
        [{ 'x-version': '2' }, '1 or 2', { version: '2' }],
        [{}, 'neutral', {}],
      ],
    ],
  ])(
    'is part of the scope: each of several %s has its own handler and its own record',
    async (_, path, ways) => {
      const firsts: Answer[] = [];
      for (const [headers, handler] of ways) {
        const first = await post(path, headers);
        expect([first.status, isReplay(first)]).toEqual([201, false]);
        expect(JSON.parse(first.text)).toMatchObject({ handler });
        firsts.push(first);
      }
      for (const [i, [headers, , whose]] of ways.entries()) {
        const retry = await post(path, headers);
        expect([isReplay(retry), retry.text]).toEqual([true, firsts[i]?.text]);
        const scope = httpScope('POST', path, whose);
        expect(await app.service.find(key, { scope })).toMatchObject({ state: 'completed' });
      }
    },
  );
});

describe('a strategy of the application for a constraint on Fastify', () => {
  let postgres: RunningPostgres;
  let app: TestApp;

  beforeAll(async () => {
    postgres = await startPostgres();
    app = await startApp({
      platform: 'fastify',
      databaseUrl: postgres.url,
      controllers: [TenantsController, AccountsController],
      fastify: {
        routerOptions: {
          constraints: {
            host: strategy('host', 'x-forwarded-host', anything),
            filedUnderAnotherName: strategy('zone', 'x-zone', anything),
            place,
          },
        },
      },
    });
  });
  afterAll(async () => {
    await app.close();
    await postgres.stop();
  });

  it.each<[string, string, Headers[], HttpCaller[]]>([
    [
      'in the place of the one for hosts, which reads another header',
      '/tenants/hosts',
      [{ 'x-forwarded-host': 'a' }, { 'x-forwarded-host': 'A' }, { 'x-forwarded-host': 'b' }],
      ['a', 'A', 'b'].map((host) => ({ constraints: { host } })),
    ],
    [
      'beside the host of a controller',
      '/accounts',
      [
        { host: 'ann.example.com', 'x-forwarded-host': 'a' },
        { host: 'ann.example.com', 'x-forwarded-host': 'b' },
        { host: 'bob.example.com', 'x-forwarded-host': 'a' },
      ],
      [
        { host: 'ann.example.com', constraints: { host: 'a' } },
        { host: 'ann.example.com', constraints: { host: 'b' } },
        { host: 'bob.example.com', constraints: { host: 'a' } },
      ],
    ],
    [
      'that is filed under another name than its own',
      '/tenants/zones',
      [{ 'x-zone': '1' }, { 'x-zone': '2' }, { 'x-zone': 'any' }],
      ['1', '2', 'any'].map((zone) => ({ constraints: { zone } })),
    ],
    [
      'that gives data',
      '/tenants/places',
      [{ 'x-place': '1' }, { 'x-place': '2' }, {}],
      ['1', '2', undefined].map((each) => ({ constraints: { place: { place: each } } })),
    ],
  ])('keeps the tenants apart that one handler serves: %s', async (_, path, tenants, callers) => {
    const key = randomUUID();
    const post = (headers: Headers): Promise<Answer> =>
      app.call(path, { body: {}, headers: { 'idempotency-key': key, ...headers } });
    const firsts: Answer[] = [];
    for (const headers of tenants) firsts.push(await post(headers));
    expect(firsts.map((first) => [first.status, isReplay(first)])).toEqual(tenants.map(() => [201, false]));
    for (const [i, headers] of tenants.entries()) {
      expect((await post(headers)).text).toBe(firsts[i]?.text);
      const scope = httpScope('POST', path, callers[i]);
      expect(await app.service.find(key, { scope })).toMatchObject({ state: 'completed' });
    }
  });
});
