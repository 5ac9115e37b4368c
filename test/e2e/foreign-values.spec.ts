import { randomUUID } from 'node:crypto';
import { Controller, Logger, Post } from '@nestjs/common';
import Redis from 'ioredis';
import { DataSource } from 'typeorm';
import { Idempotent } from '../../lib';
import { recordId } from '../../lib/core/record';
import { type RunningPostgres, type RunningRedis } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { bothStores } from '../support/both-stores';
import { migrated } from '../support/database';
import { eventually } from '../support/eventually';
import { comparable, isReplay, type Answer } from '../support/http';
import { redisKeyOf } from '../support/stored';

let runs = 0;

@Controller()
class LeadsController {
  @Post('leads')
  @Idempotent({ required: true, waitTimeout: '2s' })
  create(): unknown {
    return { run: ++runs, nonce: randomUUID() };
  }
}

const CHECKS = ['hashes', 'numbers', 'state', 'tombstone', 'headers', 'in_progress', 'completed'];

interface Forged {
  readonly token: string;
  readonly fingerprint: string;
  readonly fence: number;
}

/** A value of ours, of the claim that stands in Postgres, but for what is changed in it. */
function value({ token, fingerprint, fence }: Forged, change: object, rank = 2, body = 'forged'): string {
  const meta = { v: 1, token, fingerprint, status: 201, headers: [['X-Forged', 'yes']], ...change };
  return `${rank}:${fence}:1:0:1900000000000\n${JSON.stringify(meta)}\n${body}`;
}

type Write = (client: Redis, key: string, claim: Forged) => Promise<unknown>;
const set =
  (make: (claim: Forged) => string | Buffer): Write =>
  (client, key, claim) =>
    client.set(key, make(claim));

const inRedis: [string, Write][] = [
  ['a header that splits the response', set((c) => value(c, { headers: [['X-A', 'b\r\nX-C: d']] }))],
  ['a header name that is none', set((c) => value(c, { headers: [['X A', 'b']] }))],
  ['an empty header name', set((c) => value(c, { headers: [['', 'b']] }))],
  ['a header beyond Latin-1', set((c) => value(c, { headers: [['X-A', '太郎']] }))],
  ['a header that Node refuses here', set((c) => value(c, { headers: [['Trailer', 'X-A']] }))],
  ['status 99', set((c) => value(c, { status: 99 }))],
  ['status 101', set((c) => value(c, { status: 101 }))],
  ['status 1000', set((c) => value(c, { status: 1000 }))],
  ['a status that is text', set((c) => value(c, { status: '201' }))],
  ['no status', set((c) => value(c, { status: undefined }))],
  ['an unknown tombstone', set((c) => value(c, { tombstone: 'burnt', headers: undefined }, 2, ''))],
  ['a tombstone with a body', set((c) => value(c, { tombstone: 'too_large', headers: undefined }))],
  ['a later version', set((c) => value(c, { v: 2 }))],
  [
    'headers in a __proto__',
    set((c) => value(c, { headers: undefined }).replace('{', '{"__proto__":{"headers":[]},')),
  ],
  ['a value cut short', set((c) => value(c, {}).slice(0, 90))],
  ['a value cut within its head', set((c) => value(c, {}).slice(0, 9))],
  ['a pending outcome that is none', set((c) => value(c, { status: 42 }, 1))],
  ['a claim in progress that has a body', set((c) => value(c, { status: undefined, headers: undefined }, 0))],
  ['a fence that is none', set((c) => value({ ...c, fence: 0 }, {}))],
  ['nothing', set(() => '')],
  ['bytes', set(() => Buffer.from([0, 255, 10, 13, 0xc3, 0x28]))],
  ['20 MB of something else', set(() => Buffer.alloc(20_000_000, '2:1:1'))],
  ['20 MB in one line of ours', set((c) => value(c, { status: 0, more: 'x'.repeat(20_000_000) }))],
  ['JSON that is nested too deeply', set((c) => `2:${c.fence}:1:0:1900000000000\n${'['.repeat(100_000)}\n`)],
  ['a list', (client, key) => client.rpush(key, 'a', 'b')],
  ['a hash', (client, key) => client.hset(key, 'a', 'b')],
  ['a sorted set', (client, key) => client.zadd(key, 1, 'b')],
  ['a stream', (client, key) => client.xadd(key, '*', 'a', 'b')],
];

const inPostgres: [string, string][] = [
  ['a header that splits the response', `headers = '[["X-A", "b\\r\\nX-C: d"]]'`],
  ['a header name that is none', `headers = '[["X A", "b"]]'`],
  ['a header beyond Latin-1', `headers = '[["X-A", "\\u592a"]]'`],
  ['a header that Node refuses here', `headers = '[["Trailer", "X-A"]]'`],
  ['a header that is a number', `headers = '[["X-A", 1]]'`],
  ['headers that are an object', `headers = '{"X-A": "b"}'`],
  ['headers that are text', `headers = '"X-A: b"'`],
  ['no headers', `headers = NULL`],
  ['status 99', `status = 99`],
  ['status 101', `status = 101`],
  ['status 1000', `status = 1000`],
  ['a negative status', `status = -201`],
  ['no status', `status = NULL`],
  ['no body', `body = NULL`],
  ['an unknown tombstone', `tombstone = 'burnt'`],
  ['a tombstone and a response', `tombstone = 'too_large'`],
  ['an unknown state', `state = 'archived'`],
  ['in progress, but without a lease', `state = 'in_progress'`],
  ['another algorithm', `headers = '["A128GCM", "key"]'`],
  ['a cipher that is none', `headers = '["A256GCM", "0011223344556677"]'`],
];

/** What would be in a response if it was believed. The others are refused before a platform has part in it. */
const IN_RESPONSE = /header|status/;
const sent = <T>(values: [string, T][]): [string, T][] => values.filter(([what]) => IN_RESPONSE.test(what));

describe.each([
  { platform: 'express' as const, valuesInRedis: inRedis, rowsInPostgres: inPostgres },
  { platform: 'fastify' as const, valuesInRedis: sent(inRedis), rowsInPostgres: sent(inPostgres) },
])('on $platform', ({ platform, valuesInRedis, rowsInPostgres }) => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let client: Redis;
  let database: DataSource;
  let key: string;
  let lines: jest.SpyInstance;

  afterAll(() => database.destroy());
  afterEach(() => lines.mockRestore());
  const stores = bothStores();
  const { apps } = stores;
  beforeAll(async () => {
    ({ postgres, redis, client } = stores);
    database = await migrated(postgres.url);
    for (const check of CHECKS) {
      await database.query(`ALTER TABLE idempotency_cache DROP CONSTRAINT idempotency_cache_${check}_check`);
    }
  });
  beforeEach(async () => {
    runs = 0;
    key = randomUUID();
    lines = jest.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
  });

  const open = ({
    without,
    onOutage,
  }: { without?: 'postgres'; onOutage?: 'execute' } = {}): Promise<TestApp> =>
    startApp({
      platform,
      databaseUrl: without ? undefined : postgres.url,
      redisUrl: redis.url,
      controllers: [LeadsController],
      // Reading 20 MB takes its time where others use the machine too.
      options: { redis: { timeout: '5s' }, onOutage },
    });
  /** One for a test that counts what is logged: each application logs a kind of value once. */
  const start = async (...how: Parameters<typeof open>): Promise<TestApp> => {
    const app = await open(...how);
    apps.push(app);
    return app;
  };
  const post = (app: TestApp): Promise<Answer> => app.call('/leads', { headers: { 'idempotency-key': key } });
  const redisKey = (app = apps[0]!): string => redisKeyOf(app, recordId('POST /leads', key));
  const isLoggedOnce = async (line: RegExp): Promise<void> => {
    // Postgres may have answered before Redis.
    await eventually(() => expect(lines).toHaveBeenCalled());
    expect(lines.mock.calls).toEqual([[expect.stringMatching(line)]]);
  };
  const recorded = async (app: TestApp): Promise<[first: Answer, claim: Forged]> => {
    const first = await post(app);
    expect(first.status).toBe(201);
    await eventually(async () => expect(await client.getrange(redisKey(), 0, 1)).toBe('2:'));
    const [row] = await database.query<Forged[]>(
      `SELECT token, fence::float8, encode(fingerprint, 'hex') AS fingerprint FROM idempotency_cache WHERE key = $1`,
      [key],
    );
    return [first, row!];
  };

  describe('a value in Redis that is not ours', () => {
    it.each(valuesInRedis)('lets Postgres answer, and is logged once: %s', async (_, write) => {
      const app = await start();
      const records: [string, Answer][] = [];
      for (let count = 0; count < 2; count++) {
        key = randomUUID();
        const [first, claim] = await recorded(app);
        await client.del(redisKey());
        await write(client, redisKey(), claim);
        records.push([key, first]);
      }
      for (const [recordKey, first] of records) {
        key = recordKey;
        const again = await post(app);
        expect(isReplay(again)).toBe(true);
        expect(comparable(again)).toEqual(comparable(first));
      }
      expect(runs).toBe(2);
      await isLoggedOnce(/Redis holds a value .* did not write/);
    });

    describe('where Postgres knows nothing', () => {
      let app: TestApp;
      beforeAll(async () => {
        app = await open();
      });
      afterAll(() => app.close());

      it.each(valuesInRedis)('runs no handler twice: %s', async (_, write) => {
        await write(client, redisKey(app), { token: randomUUID(), fingerprint: 'a'.repeat(64), fence: 2 });
        const answers = await Promise.all(Array.from({ length: 5 }, () => post(app)));
        answers.push(await post(app));
        for (const answer of answers) expect(comparable(answer)).toEqual(comparable(answers[0]!));
        expect(answers[0]!.status).toBe(201);
        expect(runs).toBe(1);
      });
    });

    it.each(valuesInRedis)('is refused where Redis decides, and nothing runs: %s', async (_, write) => {
      const app = await start({ without: 'postgres' });
      await write(client, redisKey(), { token: randomUUID(), fingerprint: 'a'.repeat(64), fence: 2 });
      for (let time = 0; time < 3; time++) expect((await post(app)).status).toBe(503);
      expect(runs).toBe(0);
      await isLoggedOnce(/Redis holds a value .* did not write/);
    });
  });

  it('a value that is not ours is no outage: under `onOutage: execute`, too, no retry runs the handler', async () => {
    const app = await start({ without: 'postgres', onOutage: 'execute' });
    await client.set(redisKey(), 'something else');
    for (let time = 0; time < 3; time++) expect((await post(app)).status).toBe(503);
    expect(runs).toBe(0);
    key = randomUUID();
    await client.rpush(redisKey(), 'a', 'b');
    expect((await post(app)).status).toBe(503);
    expect(runs).toBe(0);
  });

  describe('a row that was changed by hand', () => {
    it.each(rowsInPostgres)(
      'is told as not stored, runs no handler, and is logged once: %s',
      async (_, change) => {
        const app = await start();
        const keys = [randomUUID(), randomUUID()];
        for (key of keys) {
          await recorded(app);
          await database.query(`UPDATE idempotency_cache SET ${change} WHERE key = $1`, [key]);
        }
        await client.flushall();
        for (key of [...keys, ...keys]) {
          const answer = await post(app);
          expect(answer).toMatchObject({
            status: 409,
            text: expect.stringContaining('outcome-not-stored') as string,
          });
        }
        expect(runs).toBe(2);
        await isLoggedOnce(/The row of .* cannot be read: /);
      },
    );

    it('is replayed again once it is repaired: nothing of it was cached', async () => {
      const app = await start();
      const [first] = await recorded(app);
      await database.query(`UPDATE idempotency_cache SET status = 1000 WHERE key = $1`, [key]);
      await client.flushall();
      const refused = await post(app);
      expect(refused.status).toBe(409);
      expect(refused.body.toString()).toContain('its response cannot be read from the store');
      await database.query(`UPDATE idempotency_cache SET status = 201 WHERE key = $1`, [key]);
      expect(comparable(await post(app))).toEqual(comparable(first));
    });

    it('is a tombstone to operators, who can forget it', async () => {
      const app = await start();
      await recorded(app);
      await database.query(`UPDATE idempotency_cache SET headers = '{}' WHERE key = $1`, [key]);
      await client.flushall();
      const scope = { scope: 'POST /leads' };
      expect(await app.service.find(key, scope)).toMatchObject({
        state: 'completed',
        outcome: { kind: 'tombstone', reason: 'unreadable' },
      });
      expect(await app.service.forget(key, scope)).toBe(true);
      expect((await post(app)).status).toBe(201);
      expect(runs).toBe(2);
    });

    it('is another request if its fingerprint is none', async () => {
      const app = await start();
      await recorded(app);
      await database.query(`UPDATE idempotency_cache SET fingerprint = '' WHERE key = $1`, [key]);
      await client.flushall();
      expect((await post(app)).status).toBe(422);
      expect(runs).toBe(1);
    });
  });
});
