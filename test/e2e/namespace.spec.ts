import { randomUUID } from 'node:crypto';
import { Body, Controller, Inject, Post } from '@nestjs/common';
import Redis from 'ioredis';
import { httpScope, Idempotent, type IdempotencyModuleOptions } from '../../lib';
import { startPostgres, type RunningPostgres, type RunningRedis } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { bothStores } from '../support/both-stores';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import { comparable, isReplay, type Answer } from '../support/http';

const NAME = Symbol('name of the service');
let ran: string[] = [];

@Controller()
class LeadsController {
  constructor(@Inject(NAME) private readonly service: string) {}

  @Post('leads')
  @Idempotent({ required: true })
  create(@Body() lead: unknown): unknown {
    ran.push(this.service);
    return { by: this.service, nonce: randomUUID(), lead };
  }
}

describe('Services that share a store', () => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let client: Redis;
  let databaseUrl: string;
  let key: string;

  const stores = bothStores();
  const { apps, closeAll } = stores;
  beforeAll(() => ({ postgres, redis, client } = stores));
  beforeEach(async () => {
    ran = [];
    key = randomUUID();
    databaseUrl = await postgres.createDatabase();
  });

  interface Place {
    readonly url?: string | undefined;
    readonly options?: IdempotencyModuleOptions;
  }
  const start = async (name: string, place: Place = {}): Promise<TestApp> => {
    const app = await startApp({
      databaseUrl: 'url' in place ? place.url : databaseUrl,
      redisUrl: redis.url,
      controllers: [LeadsController],
      providers: [{ provide: NAME, useValue: name }],
      options: place.options,
    });
    apps.push(app);
    return app;
  };
  const post = (app: TestApp): Promise<Answer> =>
    app.call('/leads', { body: { name: 'Test' }, headers: { 'idempotency-key': key } });
  const tierOf = async (app: TestApp): Promise<string | undefined> =>
    (await app.service.find(key, { scope: httpScope('POST', '/leads') }))?.tier;
  const eventuallyIn = (app: TestApp): Promise<void> =>
    eventually(async () => expect(await tierOf(app)).toBe('redis'));

  /** Each has its handler run, and each gets its own response again: from Redis, and from its own table if it has one. */
  const keepApart = async (one: TestApp, other: TestApp, tables = true): Promise<void> => {
    const first = await post(one);
    await eventuallyIn(one);
    const second = await post(other);
    await eventuallyIn(other);
    expect(ran).toEqual(['one', 'other']);
    expect(first.text).toContain('"by":"one"');
    expect(second.text).toContain('"by":"other"');
    const replay = async (): Promise<void> => {
      for (const [app, answer] of [
        [one, first],
        [other, second],
      ] as const) {
        const again = await post(app);
        expect(isReplay(again)).toBe(true);
        expect(comparable(again)).toEqual(comparable(answer));
      }
    };
    await replay();
    if (tables) {
      await client.flushall();
      await replay();
    }
    expect(ran).toHaveLength(2);
  };
  const namespaced = (namespace: string): Place => ({ options: { namespace } });

  it('never meet on one table and one Redis, where their namespaces differ', async () => {
    await keepApart(await start('one', namespaced('one')), await start('other', namespaced('other')));
  });

  it('never meet where one of them has no namespace', async () => {
    await keepApart(await start('one'), await start('other', namespaced('other')));
  });

  it('never meet on Redis alone, where their namespaces differ', async () => {
    const [one, other] = ['one', 'other'].map((name) => ({ ...namespaced(name), url: undefined }));
    await keepApart(await start('one', one), await start('other', other), false);
  });

  it('are one service on one table with one namespace, or with none', async () => {
    for (const place of [{}, namespaced('both')]) {
      key = randomUUID();
      ran = [];
      const [one, other] = [await start('one', place), await start('other', place)];
      const first = await post(one);
      expect(comparable(await post(other))).toEqual(comparable(first));
      expect(ran).toEqual(['one']);
    }
  });

  it('have operators who find, and forget, the records of their own namespace alone', async () => {
    const [one, other] = [await start('one', namespaced('one')), await start('other', namespaced('other'))];
    await post(one);
    const scope = httpScope('POST', '/leads');
    expect(await one.service.find(key, { scope })).toMatchObject({ state: 'completed' });
    expect(await other.service.find(key, { scope })).toBeUndefined();
    expect(await other.service.forget(key, { scope })).toBe(false);
    expect(await one.service.forget(key, { scope })).toBe(true);
  });

  it('have a namespace that reaches work without a request as well', async () => {
    const [one, other] = [await start('one', namespaced('one')), await start('other', namespaced('other'))];
    expect(await one.service.execute(key, () => 'one')).toBe('one');
    expect(await other.service.execute(key, () => 'other')).toBe('other');
    expect(await one.service.execute(key, () => 'again')).toBe('one');
  });

  describe('Redis never answers for another database', () => {
    it('where two databases of one server have one Redis', async () => {
      await keepApart(await start('one'), await start('other', { url: await postgres.createDatabase() }));
    });

    it('where two schemas of one database have one Redis', async () => {
      const inSchema = async (name: string): Promise<Place> => {
        await sql(databaseUrl, `CREATE SCHEMA ${name}`);
        return { url: `${databaseUrl}?options=-c%20search_path%3D${name}` };
      };
      await keepApart(await start('one', await inSchema('a')), await start('other', await inSchema('b')));
    });

    it('where two servers have one Redis, and their databases and tables the same numbers', async () => {
      const server = await startPostgres();
      try {
        // The first database of a new server, with a table that is made first, as on a server for staging.
        const elsewhere = await startPostgres();
        try {
          await keepApart(
            await start('one', { url: server.url }),
            await start('other', { url: elsewhere.url }),
          );
        } finally {
          await closeAll();
          await elsewhere.stop();
        }
      } finally {
        await server.stop();
      }
    });

    it('where staging is a copy of production, mark and rows included', async () => {
      const production = await start('one');
      const old = await post(production);
      await closeAll();
      const staging = await postgres.createDatabase(randomUUID(), new URL(databaseUrl).pathname.slice(1));
      const [one, other] = [await start('one'), await start('other', { url: staging })];
      // What was copied answers from the copy.
      expect(comparable(await post(other))).toEqual(comparable(old));
      expect(ran).toEqual(['one']);
      key = randomUUID();
      ran = [];
      await keepApart(one, other);
    });

    it('where the table was emptied since, once the application has started anew', async () => {
      const before = await start('one');
      await post(before);
      await eventuallyIn(before);
      await closeAll();
      await sql(databaseUrl, 'TRUNCATE idempotency_cache');
      const after = await start('one');
      expect(isReplay(await post(after))).toBe(false);
      expect(ran).toEqual(['one', 'one']);
    });

    it('where Postgres does not tell its system identifier, and a table was restored from rows', async () => {
      const roleUrl = await asPlainRole();
      await sql(postgres.url, 'REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC');
      await keepApart(
        await start('one', { url: roleUrl }),
        await start('other', { url: await asPlainRole() }),
      );
    });
  });

  it('find in Redis what Postgres had decided, after Postgres was switched off, and back', async () => {
    const before = await start('one');
    const first = await post(before);
    await eventuallyIn(before);
    await closeAll();

    const without = await start('one', { url: undefined });
    expect(comparable(await post(without))).toEqual(comparable(first));
    const older = key;
    key = randomUUID();
    const meanwhile = await post(without);
    expect(meanwhile.status).toBe(201);
    await closeAll();

    const after = await start('one');
    expect(comparable(await post(after))).toEqual(comparable(meanwhile));
    key = older;
    expect(comparable(await post(after))).toEqual(comparable(first));
    expect(ran).toEqual(['one', 'one']);
  });

  it('go on in one place on Redis alone after it was emptied under an instance that runs on', async () => {
    const before = await start('one');
    await post(before);
    await eventuallyIn(before);
    await closeAll();

    const running = await start('one', { url: undefined });
    await client.flushall();
    await eventually(async () => {
      key = randomUUID();
      await post(running);
      expect(await client.keys('idempotency:mark:*')).toHaveLength(1);
    });
    ran = [];
    key = randomUUID();
    const started = await start('other', { url: undefined });
    const first = await post(running);
    expect(comparable(await post(started))).toEqual(comparable(first));
    expect(ran).toEqual(['one']);
  });

  it('lead Redis alone to the copies also after Redis has lost everything once', async () => {
    const before = await start('one');
    await post(before);
    await eventuallyIn(before);
    await redis.restart(); // empty
    key = randomUUID();
    await eventually(async () => {
      const first = await post(before);
      await eventuallyIn(before);
      ran = [];
      const without = await start('one', { url: undefined });
      expect(comparable(await post(without))).toEqual(comparable(first));
    });
    expect(ran).toEqual([]);
  });

  /** A database of its own that a role without any privilege of the server uses. */
  async function asPlainRole(): Promise<string> {
    const url = new URL(await postgres.createDatabase());
    const role = `role_${randomUUID().replaceAll('-', '')}`;
    await sql(postgres.url, `CREATE ROLE ${role} LOGIN`);
    await sql(postgres.url, `ALTER DATABASE "${url.pathname.slice(1)}" OWNER TO ${role}`);
    url.username = role;
    return url.href;
  }
});
