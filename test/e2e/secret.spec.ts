import { randomBytes, randomUUID } from 'node:crypto';
import { Body, Controller, Logger, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import Redis from 'ioredis';
import {
  httpScope,
  Idempotent,
  IdempotencySetupError,
  InvalidOptionsError,
  type IdempotencyModuleOptions,
} from '../../lib';
import { type RunningPostgres, type RunningRedis } from '../../servers';
import { appModule, startApp, type TestApp } from '../support/app';
import { bothStores } from '../support/both-stores';
import { migrated, sql } from '../support/database';
import { eventually } from '../support/eventually';
import { comparable, isReplay, type Answer } from '../support/http';
import { IS_RECORD, REDIS_RECORDS } from '../support/stored';

const newSecret = (): string => randomBytes(32).toString('base64');
const [SECRET, OTHER] = [newSecret(), newSecret()];
let runs = 0;

@Controller()
class LeadsController {
  @Post('leads')
  @Idempotent({ required: true })
  create(@Body() lead: unknown): unknown {
    runs += 1;
    return { nonce: randomUUID(), lead };
  }

  @Post('unprotected-in-outage')
  @Idempotent({ required: true, onOutage: 'execute' })
  unprotected(): unknown {
    runs += 1;
    return { nonce: randomUUID() };
  }
}

interface Place {
  readonly without?: 'redis' | 'postgres';
  readonly url?: string;
}

describe('With `secret`', () => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let client: Redis;
  let databaseUrl: string;
  let key: string;

  afterEach(() => {
    postgres.kill('SIGCONT'); // before applications close
    jest.restoreAllMocks();
  });
  const stores = bothStores();
  const { apps, closeAll } = stores;
  beforeAll(() => ({ postgres, redis, client } = stores));
  beforeEach(async () => {
    runs = 0;
    key = randomUUID();
    databaseUrl = await postgres.createDatabase();
    jest.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
    jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
  });
  const testOptions = (options: IdempotencyModuleOptions, { without, url = databaseUrl }: Place) => ({
    databaseUrl: without === 'postgres' ? undefined : url,
    redisUrl: without === 'redis' ? undefined : redis.url,
    controllers: [LeadsController],
    options: {
      postgres: without === 'postgres' ? (false as const) : { timeout: 1_000 },
      redis: without === 'redis' ? (false as const) : { timeout: 1_000 },
      ...options,
    },
  });
  const start = async (options: IdempotencyModuleOptions, place: Place = {}): Promise<TestApp> => {
    const app = await startApp(testOptions(options, place));
    apps.push(app);
    return app;
  };
  /** Why an application does not start. */
  const refusal = async (options: IdempotencyModuleOptions, place: Place = {}): Promise<string> => {
    const settings = { logger: false as const, abortOnError: false };
    const app = await NestFactory.create(appModule(testOptions(options, place)), settings);
    const error: unknown = await app.init().then(
      () => undefined,
      (reason: unknown) => reason,
    );
    await app.close();
    expect(error).toBeInstanceOf(IdempotencySetupError);
    return (error as Error).message;
  };
  const post = (app: TestApp, path = '/leads', body: unknown = { name: 'Test' }): Promise<Answer> =>
    app.call(path, { body, headers: { 'idempotency-key': key } });
  const replays = async (app: TestApp, first: Answer): Promise<void> => {
    const again = await post(app);
    expect(isReplay(again)).toBe(true);
    expect(comparable(again)).toEqual(comparable(first));
  };

  describe('what the stores hold', () => {
    const PIN = '0417';
    const PASSWORD = 'wintersun7';

    interface Stolen {
      readonly scope: string;
      readonly fingerprint: string;
      readonly key: string;
    }
    const send = (app: TestApp, password: string, pin: string, name: string): Promise<Answer> =>
      app.call('/leads', {
        body: { pin },
        headers: {
          'idempotency-key': name,
          authorization: `Basic ${Buffer.from(`alice:${password}`).toString('base64')}`,
        },
      });
    const rowOf = async (url: string, name: string): Promise<Stolen> => {
      const [row] = await sql<Stolen>(
        url,
        `SELECT scope, encode(fingerprint, 'hex') AS fingerprint, key FROM idempotency_cache
         WHERE key = $1 AND ${IS_RECORD}`,
        [name],
      );
      return row!;
    };

    /** Has an application of the attacker's digest every candidate, as anyone can who has this package. */
    const recovered = async (stolen: Stolen, secret: IdempotencyModuleOptions['secret']) => {
      const url = await postgres.createDatabase();
      const own = await start({ secret }, { url, without: 'redis' });
      const digests = async (password: string, pin: string): Promise<Stolen> => {
        const name = randomUUID();
        expect((await send(own, password, pin, name)).status).toBe(201);
        return rowOf(url, name);
      };
      const passwords = ['123456', 'password', 'letmein', 'wintersun6', PASSWORD, 'qwertz'];
      const pins = Array.from({ length: 30 }, (_, index) => String(400 + index).padStart(4, '0'));
      const found: { password?: string; pin?: string } = {};
      for (const password of passwords)
        if ((await digests(password, '')).scope === stolen.scope) found.password = password;
      for (const pin of pins)
        if ((await digests('', pin)).fingerprint === stolen.fingerprint) found.pin = pin;
      return found;
    };
    const stolenFrom = async (options: IdempotencyModuleOptions): Promise<Stolen> => {
      const app = await start(options);
      expect((await send(app, PASSWORD, PIN, key)).status).toBe(201);
      return rowOf(databaseUrl, key);
    };

    it('lets a dictionary find neither a Basic password nor a PIN', async () => {
      const stolen = await stolenFrom({ secret: SECRET });
      expect(await recovered(stolen, undefined)).toEqual({});
      expect(await recovered(stolen, OTHER)).toEqual({});
    });

    it('positive control: without a secret, a dictionary finds both, also where responses are encrypted', async () => {
      const stolen = await stolenFrom({ encryption: { keys: [randomBytes(32)] } });
      expect(await recovered(stolen, undefined)).toEqual({ password: PASSWORD, pin: PIN });
    });

    it('is no byte of the secret', async () => {
      await post(await start({ secret: SECRET }));
      await eventually(async () => expect(await client.keys(REDIS_RECORDS)).toHaveLength(1));
      const keys = await client.keys('*');
      const values = await Promise.all(keys.map((each) => client.getBuffer(each)));
      const rows = await sql<{ row: string }>(
        databaseUrl,
        'SELECT idempotency_cache::text AS row FROM idempotency_cache',
      );
      expect([keys.length, rows.length]).toEqual([3, 2]); // marks are among them
      const everything = [...keys, ...values.map(String), ...rows.map(({ row }) => row)].join('\n');
      for (const form of [
        SECRET,
        Buffer.from(SECRET).toString('hex'),
        Buffer.from(SECRET).toString('base64'),
      ])
        expect(everything).not.toContain(form);
    });
  });

  it('a request runs its handler once and replays from either store, in any instance that has it', async () => {
    const [one, other] = [await start({ secret: SECRET }), await start({ secret: Buffer.from(SECRET) })];
    const first = await post(one);
    await replays(other, first);
    await client.flushall();
    await replays(other, first);
    expect(runs).toBe(1);
    expect(await one.service.find(key, { scope: httpScope('POST', '/leads') })).toMatchObject({
      state: 'completed',
    });
    expect(await one.service.execute(key, () => 1)).toBe(1);
    expect(await other.service.execute(key, () => 2)).toBe(1);
  });

  it('operators find the record of a caller by its credentials, where they name the secret', async () => {
    const app = await start({ secret: SECRET });
    const authorization = 'Bearer alice';
    await app.call('/leads', { body: {}, headers: { authorization, 'idempotency-key': key } });
    const found = (secret?: string): Promise<unknown> =>
      app.service.find(key, {
        scope: httpScope('POST', '/leads', { credentials: { authorization }, secret }),
      });
    expect(await found(SECRET)).toMatchObject({ state: 'completed' });
    expect(await found()).toBeUndefined();
    expect(() => found('short')).toThrow(InvalidOptionsError);
  });

  it('encryption keys that are changed at the same time change no id', async () => {
    const [oldKey, newKey] = [randomBytes(32), randomBytes(32)];
    const before = await start({ secret: SECRET, encryption: { keys: [oldKey] } });
    const first = await post(before);
    const after = await start({ secret: SECRET, encryption: { keys: [newKey, oldKey] } });
    await replays(after, first);
    await client.flushall();
    await replays(after, first);
    expect(runs).toBe(1);
  });

  describe('in a rolling change, an instance whose secret is not that of the others does not start', () => {
    it.each<[string, IdempotencyModuleOptions, IdempotencyModuleOptions, RegExp]>([
      ['set', {}, { secret: SECRET }, /without a `secret`, and this application has one.*Remove `secret`/],
      ['changed', { secret: SECRET }, { secret: OTHER }, /with another `secret`.*Configure the `secret`/],
      ['missing', { secret: SECRET }, {}, /with a `secret`, and this application has none.*Configure/],
    ])('%s on one of three: the others go on, and nothing runs twice', async (_, before, after, message) => {
      for (const without of [undefined, 'redis', 'postgres'] as const) {
        key = randomUUID();
        runs = 0;
        const [one, two, three] = [
          await start(before, { without }),
          await start(before, { without }),
          await start(before, { without }),
        ];
        const first = await post(three);
        await three.close();
        apps.splice(apps.indexOf(three), 1);
        expect(await refusal(after, { without })).toMatch(message);
        await replays(one, first);
        await replays(two, first);
        expect(runs).toBe(1);
        await replays(await start(before, { without }), first); // rolled back
        await closeAll();
      }
    });

    it('nor does one of another secret in the same namespace, and in a new one it does', async () => {
      const app = await start({ namespace: 'a', secret: SECRET });
      await post(app);
      expect(await refusal({ namespace: 'a', secret: OTHER })).toMatch(/with another `secret`/);
      expect(await refusal({ namespace: 'a' })).toMatch(/with a `secret`/);
      expect((await post(await start({ namespace: 'b', secret: OTHER }))).status).toBe(201);
      expect((await post(await start({ namespace: 'c' }))).status).toBe(201);
      expect(runs).toBe(3);
    });

    it('nor does one that starts over a copy of a table with another secret', async () => {
      await post(await start({ secret: SECRET }));
      await closeAll();
      const url = await postgres.createDatabase(randomUUID(), new URL(databaseUrl).pathname.slice(1));
      expect(await refusal({ secret: OTHER }, { url })).toMatch(/with another `secret`/);
      await sql(url, 'TRUNCATE idempotency_cache');
      expect((await post(await start({ secret: OTHER }, { url }))).status).toBe(201);
    });
  });

  it('of two instances that start at once on an empty table with different secrets, one does not start', async () => {
    for (let round = 0; round < 5; round++) {
      databaseUrl = await postgres.createDatabase();
      await (await migrated(databaseUrl)).destroy(); // two that migrate at once would be another matter
      const started = await Promise.allSettled([
        start({ secret: SECRET }, { without: 'redis' }),
        start({ secret: OTHER }, { without: 'redis' }),
      ]);
      expect(started.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
      const [failed] = started.filter((each) => each.status === 'rejected');
      expect(String(failed?.reason)).toContain('with another `secret`');
      await closeAll();
    }
  });

  describe('records from before there were marks', () => {
    beforeEach(async () => {
      await post(await start({}));
      await closeAll();
      await sql(databaseUrl, `DELETE FROM idempotency_cache WHERE NOT ${IS_RECORD}`);
    });

    it('refuse a secret, and name a namespace or a new table as the way to begin', async () => {
      const message = await refusal({ secret: SECRET });
      expect(message).toMatch(
        /without a `secret`, and this.*Remove `secret`.*`namespace` that is new or a table that is empty/,
      );
      expect((await post(await start({ secret: SECRET, namespace: 'new' }))).status).toBe(201);
    });

    it('go on without one', async () => {
      await client.flushall();
      expect(isReplay(await post(await start({})))).toBe(true);
      expect(runs).toBe(1);
    });

    it('refuse no secret once they have expired', async () => {
      await sql(databaseUrl, `UPDATE idempotency_cache SET expires_at = now() - interval '1 second'`);
      expect((await post(await start({ secret: SECRET }))).status).toBe(201);
    });
  });

  describe('a mark that was deleted, while records stand', () => {
    const unmarked = async (options: IdempotencyModuleOptions): Promise<Answer> => {
      const first = await post(await start(options));
      await closeAll();
      await sql(databaseUrl, `DELETE FROM idempotency_cache WHERE NOT ${IS_RECORD}`);
      return first;
    };

    it.each<[string, IdempotencyModuleOptions]>([
      ['with it', { secret: SECRET }],
      ['with it and a namespace', { secret: SECRET, namespace: 'a' }],
      ['without one', {}],
    ])('is left again by an application whose records they are: %s', async (_, options) => {
      const first = await unmarked(options);
      await replays(await start(options), first);
      expect(runs).toBe(1);
      const marks = await sql(databaseUrl, `SELECT FROM idempotency_cache WHERE NOT ${IS_RECORD}`);
      expect(marks).toHaveLength(1);
    });

    it.each<[string, IdempotencyModuleOptions, IdempotencyModuleOptions, RegExp]>([
      ['another', { secret: SECRET }, { secret: OTHER }, /with another `secret`.*Configure the `secret`/],
      ['none', { secret: SECRET }, {}, /with a `secret` or with a `namespace`.*Configure the `secret`/],
      [
        'one where the records of its namespace have none',
        { namespace: 'a' },
        { namespace: 'a', secret: SECRET },
        /without a `secret`/,
      ],
    ])('lets no application start whose secret is %s', async (_, before, after, message) => {
      await unmarked(before);
      expect(await refusal(after)).toMatch(message);
      await start(before);
    });

    it('is no reason to refuse an application among the records of others', async () => {
      await post(await start({ secret: SECRET, namespace: 'a' }));
      expect((await post(await start({}))).status).toBe(201);
      expect(runs).toBe(2);
    });
  });

  it('a table that was emptied by an operator, mark included, is as new', async () => {
    const app = await start({ secret: SECRET });
    await post(app);
    await eventually(async () => expect(await client.keys(REDIS_RECORDS)).toHaveLength(1));
    await sql(databaseUrl, 'DELETE FROM idempotency_cache');
    await client.flushall();
    const first = await post(app); // what runs goes on
    expect(first.status).toBe(201);
    expect(runs).toBe(2);
    // The row that it has made since says that the table is in use, so another secret does not begin there.
    expect(await refusal({ secret: OTHER })).toMatch(/with another `secret`/);
    await closeAll();
    await sql(databaseUrl, 'DELETE FROM idempotency_cache');
    expect((await post(await start({ secret: OTHER }))).status).toBe(201);
    expect(await refusal({ secret: SECRET })).toMatch(/with another `secret`/);
  });

  describe('while Postgres cannot be asked at start', () => {
    /** Postgres stands still from when the DataSource has connected until the test lets it go on. */
    const startedMeanwhile = async (options: IdempotencyModuleOptions): Promise<TestApp> => {
      const configure = (): void => postgres.kill('SIGSTOP');
      const app = await startApp({ ...testOptions(options, {}), configure });
      apps.push(app);
      return app;
    };

    it('an instance with another secret starts, but claims nothing, replays nothing and runs nothing, under `onOutage: execute` either', async () => {
      const right = await start({ secret: SECRET });
      const first = await post(right);
      await eventually(async () => expect(await client.keys(REDIS_RECORDS)).toHaveLength(1));
      const wrong = await startedMeanwhile({ secret: OTHER });
      expect((await post(wrong)).status).toBe(503);
      postgres.kill('SIGCONT');
      const found = (): Promise<string> =>
        wrong.service.find(key, { scope: httpScope('POST', '/leads') }).then(String, String);
      await eventually(async () => expect(await found()).toContain('with another `secret`'));
      expect((await post(wrong)).status).toBe(503);
      expect((await post(wrong, '/unprotected-in-outage')).status).toBe(503);
      await replays(right, first);
      expect(runs).toBe(1);
    });

    it('an instance with the right secret serves from both stores as soon as Postgres answers', async () => {
      const right = await start({ secret: SECRET });
      const first = await post(right);
      await eventually(async () => expect(await client.keys(REDIS_RECORDS)).toHaveLength(1));
      const late = await startedMeanwhile({ secret: SECRET });
      expect((await post(late)).status).toBe(503); // Redis is not asked before it is known whose copies it has
      postgres.kill('SIGCONT');
      await eventually(async () => expect(comparable(await post(late))).toEqual(comparable(first)));
      expect(runs).toBe(1);
      postgres.kill('SIGSTOP');
      await replays(late, first); // from Redis
    });
  });

  it.each<[string, unknown]>([
    ['too short a text', 'x'.repeat(31)],
    ['spaces around too short a text', ` ${'x'.repeat(31)} `],
    ['too few bytes', randomBytes(31)],
    ['a number', 123],
    ['an empty text', ''],
    ['null', null],
  ])('%s stops the start with an error that does not show it', async (_, secret) => {
    const options = { secret } as IdempotencyModuleOptions;
    const error: unknown = await start(options).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(InvalidOptionsError);
    expect((error as Error).message).toMatch(
      /option "secret" is not valid \(its value is not shown\), but must be .*32 bytes/,
    );
    expect((error as Error).message).not.toContain('xxx');
  });
});
