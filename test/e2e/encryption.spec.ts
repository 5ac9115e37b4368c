import { randomBytes, randomUUID } from 'node:crypto';
import { Body, Controller, Logger, Post, Res } from '@nestjs/common';
import Redis from 'ioredis';
import { DataSource } from 'typeorm';
import { Idempotent, type IdempotencyModuleOptions } from '../../lib';
import { recordId } from '../../lib/core/record';
import { type RunningPostgres, type RunningRedis } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { bothStores } from '../support/both-stores';
import { migrated } from '../support/database';
import { eventually } from '../support/eventually';
import { comparable, isReplay, type Answer } from '../support/http';
import { IS_RECORD, REDIS_RECORDS, redisKeyOf } from '../support/stored';
import { metric } from '../support/metrics';
import { openProcess } from '../support/tiers';

jest.mock('../../lib/store/cache-deadline', () => jest.requireActual<object>('../support/awaited-redis'));

const newKey = (): string => randomBytes(32).toString('base64');
const [KEY, NEW_KEY] = [newKey(), newKey()];

const SECRET = 'the patient is well';
const CARD = '4242-4242-4242-4242';
let runs = 0;

@Controller()
class SecretsController {
  @Post('secrets')
  @Idempotent({ required: true, maxBodySize: 10_000 })
  create(
    @Body() { size = 0 }: { size?: number },
    @Res({ passthrough: true }) response: { setHeader(name: string, value: string | string[]): void },
  ): unknown {
    runs += 1;
    response.setHeader('X-Card', [CARD, 'second']);
    return { run: runs, nonce: randomUUID(), secret: SECRET, filler: 'x'.repeat(size) };
  }
}

describe('encryption at rest', () => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let client: Redis;
  let database: DataSource;
  let key: string;
  let errors: jest.SpyInstance;

  afterAll(() => database.destroy());
  afterEach(() => errors.mockRestore());
  const stores = bothStores();
  const { apps } = stores;
  beforeAll(async () => {
    ({ postgres, redis, client } = stores);
    database = await migrated(postgres.url);
  });
  beforeEach(async () => {
    runs = 0;
    key = randomUUID();
    errors = jest.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
    await database.query('TRUNCATE idempotency_cache');
  });

  const start = async (
    encryption: IdempotencyModuleOptions['encryption'],
    { without, onOutage }: { without?: 'redis' | 'postgres'; onOutage?: 'execute' } = {},
  ): Promise<TestApp> => {
    const app = await startApp({
      databaseUrl: without === 'postgres' ? undefined : postgres.url,
      redisUrl: without === 'redis' ? undefined : redis.url,
      controllers: [SecretsController],
      // A copy that is not written in time is not written again.
      options: { encryption, onOutage, ...(without !== 'redis' && { redis: { timeout: '5s' } }) },
    });
    apps.push(app);
    return app;
  };
  const post = (app: TestApp, body: object = {}): Promise<Answer> =>
    app.call('/secrets', { body, headers: { 'idempotency-key': key } });
  const redisKey = (of = key): string => redisKeyOf(apps.at(-1)!, recordId('POST /secrets', of));
  const inRedis = (): Promise<Buffer> =>
    eventually(async () => {
      const value = await client.getBuffer(redisKey());
      expect(value?.toString('latin1')).toMatch(/^2:/); // completed
      return value!;
    });
  const refusals = (): string[] => errors.mock.calls.map(([line]) => String(line));
  const replays = async (app: TestApp, first: Answer): Promise<void> => {
    const again = await post(app);
    expect(isReplay(again)).toBe(true);
    expect(comparable(again)).toEqual(comparable(first));
  };
  const isRefused = async (app: TestApp): Promise<void> => {
    const before = runs;
    const answer = await post(app);
    expect(answer).toMatchObject({
      status: 409,
      headers: { 'content-type': expect.stringMatching(/problem/) },
    });
    expect(answer.text).toContain('outcome-not-stored');
    expect(answer.text).not.toContain(SECRET);
    expect(runs).toBe(before);
  };

  /** Everything that either store holds, in each form in which a secret could be seen. */
  const everything = async (): Promise<string> => {
    const keys = await client.keys(REDIS_RECORDS);
    const values = await Promise.all(keys.map((each) => client.getBuffer(each)));
    const rows = await database.query<{ row: string; body: Buffer; headers: unknown }[]>(
      `SELECT idempotency_cache::text AS row, body, headers FROM idempotency_cache WHERE ${IS_RECORD}`,
    );
    expect(keys.length).toBeGreaterThan(0);
    expect(rows.length).toBeGreaterThan(0);
    return [
      ...values.map((value) => value?.toString('latin1')),
      ...rows.map(({ row, body }) => row + body.toString('latin1')),
    ].join('\n');
  };
  const forms = (text: string): string[] => [
    text,
    Buffer.from(text).toString('hex'),
    // Whatever its place, two of the three ways to align it show most of it.
    ...[0, 1, 2].map((shift) => Buffer.from(text).subarray(shift).toString('base64').slice(0, -4)),
  ];

  it('leaves no byte of a header or a body in Redis or in the table', async () => {
    const app = await start({ keys: [KEY] });
    await post(app);
    await inRedis();
    await app.service.execute('job', () => ({ secret: SECRET }));
    await eventually(async () => expect(await client.keys(REDIS_RECORDS)).toHaveLength(2));
    const encrypted = await everything();
    for (const text of [SECRET, CARD, 'X-Card', 'Content-Type']) {
      for (const form of forms(text)) expect(encrypted).not.toContain(form);
    }

    // And the same look finds them where they are.
    await client.flushall();
    await database.query('TRUNCATE idempotency_cache');
    const plain = await start(undefined);
    await post(plain);
    await inRedis();
    const readable = await everything();
    for (const text of [SECRET, CARD, 'X-Card', 'Content-Type']) expect(readable).toContain(text);
  });

  it('leaves what operators look for in the clear: key, scope and status', async () => {
    const app = await start({ keys: [KEY] });
    await post(app);
    const rows = await database.query(
      `SELECT key, scope, status, headers FROM idempotency_cache WHERE ${IS_RECORD}`,
    );
    expect(rows).toEqual([
      {
        key,
        scope: 'POST /secrets',
        status: 201,
        headers: ['A256GCM', expect.stringMatching(/^[0-9a-f]{16}$/)],
      },
    ]);
  });

  it('replays the same response from either store, in this process and in another', async () => {
    const app = await start({ keys: [KEY] });
    const another = await start({ keys: [KEY], acceptPlain: false });
    const first = await post(app);
    await inRedis();
    const fromRedis = await metric('idempotency_redis_hits');
    await replays(app, first);
    await replays(another, first);
    expect((await metric('idempotency_redis_hits')) - fromRedis).toBe(2);
    const fromPostgres = await metric('idempotency_db_hits');
    await client.flushall();
    await replays(another, first);
    expect((await metric('idempotency_db_hits')) - fromPostgres).toBe(1);
    expect(runs).toBe(1);
    expect(refusals()).toEqual([]);
  });

  it('gives operators and jobs what was stored, opened', async () => {
    const app = await start({ keys: [KEY], acceptPlain: false });
    const first = await post(app);
    await inRedis();
    for (const tier of ['redis', 'postgres'] as const) {
      const record = await app.service.find(key, { scope: 'POST /secrets' });
      expect(record).toMatchObject({ tier, outcome: { kind: 'response', body: first.body } });
      await client.flushall();
    }
    const job = (): Promise<unknown> => app.service.execute('job', () => ({ run: ++runs, secret: SECRET }));
    expect(await job()).toEqual({ run: 2, secret: SECRET });
    expect(await job()).toEqual({ run: 2, secret: SECRET });
  });

  it.each(['redis', 'postgres'] as const)('works without %s', async (without) => {
    const app = await start({ keys: [KEY], acceptPlain: false }, { without });
    const first = await post(app);
    await replays(app, first);
    expect(runs).toBe(1);
    if (without === 'postgres') expect((await inRedis()).includes(SECRET)).toBe(false);
  });

  it('tells of a response that was too large, as without encryption', async () => {
    const app = await start({ keys: [KEY], acceptPlain: false });
    const large = (): Promise<Answer> => post(app, { size: 20_000 });
    expect((await large()).status).toBe(201);
    expect(await large()).toMatchObject({
      status: 409,
      text: expect.stringContaining('too large') as string,
    });
    await client.flushall();
    expect(await large()).toMatchObject({
      status: 409,
      text: expect.stringContaining('too large') as string,
    });
    expect(runs).toBe(1);
  });

  it('encrypts also the outcome that waits in Redis for Postgres, and another process brings it there', async () => {
    const options = { encryption: { keys: [KEY], acceptPlain: false } };
    const [owner, other] = await Promise.all([1, 2].map(() => openProcess(database, redis.url, options)));
    try {
      const value = await owner!.service.execute(key, () => {
        owner!.postgres.off = true;
        return { secret: SECRET };
      });
      const stored = await client.getBuffer(`test:${recordId('execute', key).hash}`);
      expect(stored?.toString('latin1')).toMatch(/^1:/); // pending
      expect(stored?.includes(SECRET)).toBe(false);
      expect(await other!.service.execute(key, () => ({ secret: 'run twice' }))).toEqual(value);
      await eventually(async () => {
        const [row] = await database.query<{ state: string; headers: unknown }[]>(
          'SELECT state, headers FROM idempotency_cache',
        );
        expect(row).toMatchObject({ state: 'completed', headers: ['A256GCM', expect.any(String)] });
      });
    } finally {
      await Promise.all([owner!.close(), other!.close()]);
    }
  });

  describe('when keys are changed in the documented order', () => {
    it('every instance replays what any other recorded, at each step', async () => {
      const old = await start({ keys: [KEY], acceptPlain: false });
      const adding = await start({ keys: [KEY, NEW_KEY], acceptPlain: false });
      const changed = await start({ keys: [NEW_KEY, KEY], acceptPlain: false });
      const done = await start({ keys: [NEW_KEY], acceptPlain: false });
      const steps = [
        [old, adding],
        [adding, changed],
        [changed, done],
      ] as const;
      for (const pair of steps) {
        for (const [writer, reader] of [pair, [...pair].reverse() as [TestApp, TestApp]]) {
          // What the old key had made has expired when it is taken out.
          if (writer === done && reader === changed) continue;
          key = randomUUID();
          const first = await post(writer);
          await inRedis();
          await replays(reader, first);
          await client.flushall();
          await replays(reader, first);
        }
      }
      expect(refusals()).toEqual([]);
    });
  });

  describe('without the key', () => {
    it('a record is told as not stored, its handler does not run, and one line per store says what to do', async () => {
      const first = await post(await start({ keys: [KEY] }));
      await inRedis();
      const plain = await start(undefined);
      const keys = [key, (key = randomUUID())];
      await post(apps[0]!);
      await inRedis();
      for (key of [...keys, ...keys]) await isRefused(plain);
      expect(refusals()).toHaveLength(2);
      for (const line of refusals()) expect(line).toContain('configure `encryption` with that key');
      expect(first.status).toBe(201);
    });

    it('an instance spoils nothing for those that have the key', async () => {
      const keyed = await start({ keys: [KEY] });
      const first = await post(keyed);
      await inRedis();
      await client.flushall();
      await isRefused(await start(undefined));
      await isRefused(await start({ keys: [NEW_KEY] }));
      await replays(keyed, first);
      await client.flushall();
      await replays(keyed, first);
    });

    it('and without Postgres, a record is refused with 503, and its handler does not run, under `onOutage: execute` either', async () => {
      await post(await start({ keys: [KEY] }, { without: 'postgres' }));
      const plain = await start(undefined, { without: 'postgres' });
      for (let time = 0; time < 3; time++) expect((await post(plain)).status).toBe(503);
      const executing = await start(undefined, { without: 'postgres', onOutage: 'execute' });
      for (let time = 0; time < 3; time++) expect((await post(executing)).status).toBe(503);
      expect(runs).toBe(1);
      expect(refusals().filter((line) => line.includes('configure `encryption`'))).toHaveLength(2);
    });
  });

  describe('a record from before encryption was switched on', () => {
    let first: Answer;
    beforeEach(async () => {
      first = await post(await start(undefined));
      await inRedis();
    });

    it('is replayed by default', async () => {
      const app = await start({ keys: [KEY] });
      await replays(app, first);
      await client.flushall();
      await replays(app, first);
    });

    it('is refused where it was said that none are accepted', async () => {
      const strict = await start({ keys: [KEY], acceptPlain: false });
      await isRefused(strict);
      await isRefused(strict);
      expect(refusals()).toHaveLength(2);
      for (const line of refusals()) expect(line).toContain('`encryption.acceptPlain` is false');
    });
  });

  describe('a person who can write to a store, but has no key,', () => {
    const two = async (app: TestApp): Promise<[mine: string, other: string, first: Answer]> => {
      const other = key;
      await post(app);
      await inRedis();
      key = randomUUID();
      const first = await post(app);
      await inRedis();
      return [key, other, first];
    };

    it.each([
      ['the response', 'headers = other.headers, body = other.body'],
      ['the response and its status', 'headers = other.headers, body = other.body, status = other.status'],
      [
        'everything',
        `headers = other.headers, body = other.body, status = other.status, token = other.token,
         fingerprint = other.fingerprint, fence = other.fence, completed_at = other.completed_at`,
      ],
    ])('cannot have one record answer with another’s: %s in the table', async (_, copied) => {
      const app = await start({ keys: [KEY], acceptPlain: false });
      const [mine, other] = await two(app);
      await database.query(
        `UPDATE idempotency_cache AS mine SET ${copied} FROM idempotency_cache AS other WHERE mine.key = $1 AND other.key = $2`,
        [mine, other],
      );
      await client.flushall();
      await isRefused(app);
      expect(refusals()).toEqual([expect.stringContaining('belongs to another record')]);
    });

    it('cannot have one record answer with another’s: the value in Redis', async () => {
      const app = await start({ keys: [KEY], acceptPlain: false });
      const [mine, other, first] = await two(app);
      await client.copy(redisKey(other), redisKey(mine), 'REPLACE');
      await replays(app, first); // Postgres answers
      expect(runs).toBe(2);
      expect(refusals()).toEqual([expect.stringContaining('belongs to another record')]);
    });

    it.each([0, 20, 40, -1])('cannot change a byte (at %i)', async (at) => {
      const app = await start({ keys: [KEY], acceptPlain: false });
      const first = await post(app);
      const value = await inRedis();
      const body = value.indexOf('\n', value.indexOf('\n') + 1) + 1;
      const changed = at < 0 ? value.length + at : body + at;
      value[changed]! ^= 1;
      await client.set(redisKey(), value, 'KEEPTTL');
      await replays(app, first); // Postgres answers

      await database.query(
        `UPDATE idempotency_cache SET body = set_byte(body, mod(length(body) + $1::integer, length(body)),
           get_byte(body, mod(length(body) + $1::integer, length(body))) # 1)`,
        [at],
      );
      await client.flushall();
      await isRefused(app);
      expect(runs).toBe(1);
      expect(refusals()).toHaveLength(2);
    });

    it('cannot change the status', async () => {
      const app = await start({ keys: [KEY], acceptPlain: false });
      const first = await post(app);
      const value = await inRedis();
      const changed = value.toString('latin1').replace('"status":201', '"status":202');
      await client.set(redisKey(), Buffer.from(changed, 'latin1'), 'KEEPTTL');
      await replays(app, first); // Postgres answers
      await database.query('UPDATE idempotency_cache SET status = 202');
      await client.flushall();
      await isRefused(app);
    });

    it.each([false, true])(
      'can forge a response only while plain ones are accepted (%s)',
      async (acceptPlain) => {
        const app = await start({ keys: [KEY], acceptPlain });
        const first = await post(app);
        const record = await app.service.find(key, { scope: 'POST /secrets' });
        const { token, fingerprint, fence } = record!;
        const forged = { v: 1, token, fingerprint, status: 200, headers: [['X-Forged', 'yes']] };
        await inRedis();
        await client.set(redisKey(), `2:${fence}:1:0:1900000000000\n${JSON.stringify(forged)}\nforged`);
        const answer = await post(app);
        if (acceptPlain) expect(answer.text).toBe('forged');
        else expect(comparable(answer)).toEqual(comparable(first));
        await database.query(
          `UPDATE idempotency_cache SET headers = '[]', body = 'forged' WHERE ${IS_RECORD}`,
        );
        await client.flushall();
        if (acceptPlain) expect((await post(app)).text).toBe('forged');
        else await isRefused(app);
        expect(runs).toBe(1);
      },
    );
  });
});
