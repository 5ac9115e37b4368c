import Redis from 'ioredis';
import { createSecretKey } from 'node:crypto';
import { Digest, plainDigest } from '../../../lib/core/digest';
import { isIdempotencySetupError, UnreadableRecordError } from '../../../lib/core/errors';
import { RedisConnection } from '../../../lib/store/redis/connection/redis.connection';
import { ArbiterKeySpace, TableKeySpace, type KeySpaceOptions } from '../../../lib/store/redis/key-space';
import { startRedis, type RunningRedis } from '../../../servers';
import { eventually } from '../../support/eventually';

const TAG = 'a1b2';
const TTL = 60_000;

describe('the keys of one table’s records', () => {
  let redis: RunningRedis;
  let application: Redis;
  let connection: RedisConnection;
  beforeAll(async () => {
    redis = await startRedis();
    application = new Redis(redis.url);
    connection = new RedisConnection(application, { timeout: 5_000 });
    await connection.open();
  });
  afterAll(async () => {
    await connection.close();
    application.disconnect();
    await redis.stop();
  });
  beforeEach(() => application.flushall());
  const options = (digest: Digest = plainDigest): KeySpaceOptions => ({
    connection,
    keyPrefix: 'i:',
    digest,
  });
  const mark = (): Promise<string | null> => application.get(`i:mark:${plainDigest.markId}`);

  it('are unknown until the table has told who it is, and have its tag from then on', async () => {
    const table: { tag?: string } = {};
    const space = new TableKeySpace(options(), () => table.tag);
    space.announce();
    expect(space.prefix).toBeUndefined();
    await expect(space.confirm()).rejects.toMatchObject({ tier: 'redis', sent: false });
    table.tag = TAG;
    expect(space.prefix).toBe('i:a1b2:');
    space.announce();
    await eventually(async () => expect(await mark()).toBe(`${plainDigest.markOfSecret}:${TAG}`));
  });

  it('have a mark of their table, which a tool looks for and does not leave', async () => {
    const application = new TableKeySpace(options(), () => TAG);
    const tool = new TableKeySpace({ ...options(), leavesMark: false }, () => TAG);
    tool.announce();
    expect(await tool.isMarked()).toBe(false);
    new TableKeySpace(options(), () => 'c3d4').announce();
    await eventually(async () => expect(await mark()).toContain('c3d4'));
    expect(await tool.isMarked()).toBe(false);
    application.announce();
    await eventually(async () => expect(await tool.isMarked()).toBe(true));
  });

  it('are found again by a Redis that decides alone, once Postgres is switched off', async () => {
    const table = new TableKeySpace(options(), () => TAG);
    table.announce();
    await eventually(async () => expect(await mark()).not.toBeNull());
    const alone = new ArbiterKeySpace(options(), TTL);
    await alone.confirm();
    expect(alone.prefix).toBe(table.prefix);
  });

  it('are of no table where there never was one, for every instance', async () => {
    const [one, other] = [new ArbiterKeySpace(options(), TTL), new ArbiterKeySpace(options(), TTL)];
    await Promise.all([one.confirm(), one.confirm(), other.confirm()]);
    expect([one.prefix, other.prefix]).toEqual(['i:none:', 'i:none:']);
    expect(await mark()).toBe(`${plainDigest.markOfSecret}:none`);
  });

  it('are refused under another secret, and where the mark is not ours', async () => {
    await new ArbiterKeySpace(options(), TTL).confirm();
    const keyed = new Digest({ secret: createSecretKey(Buffer.alloc(32)) });
    const other = new ArbiterKeySpace(options(keyed), TTL);
    expect(isIdempotencySetupError(await other.confirm().catch((error: unknown) => error))).toBe(true);
    expect(other.prefix).toBeUndefined();
    await application.set(`i:mark:${plainDigest.markId}`, 'foreign');
    await expect(new ArbiterKeySpace(options(), TTL).confirm()).rejects.toBeInstanceOf(UnreadableRecordError);
  });

  it('are looked for anew where the connection was lost, as it may be another Redis', async () => {
    const space = new ArbiterKeySpace(options(), TTL);
    await space.confirm();
    space.forget();
    expect(space.prefix).toBeUndefined();
    await application.set(`i:mark:${plainDigest.markId}`, `${plainDigest.markOfSecret}:${TAG}`);
    await space.confirm();
    expect(space.prefix).toBe('i:a1b2:');
  });

  it('keep their mark in a Redis that was emptied under an instance that runs on', async () => {
    const space = new ArbiterKeySpace(options(), TTL);
    await space.confirm();
    await application.flushall();
    await eventually(async () => {
      space.announce();
      expect(await mark()).toBe(`${plainDigest.markOfSecret}:none`);
    });
  });

  it('may hold outcomes that a table lacks for as long as those live which Redis decided about alone', async () => {
    const table = new TableKeySpace(options(), () => TAG);
    expect(table.mayHoldMore).toBe(true); // not known yet
    await table.ask();
    expect(table.mayHoldMore).toBe(false);
    await new ArbiterKeySpace(options(), TTL).confirm();
    await eventually(() => expect(table.mayHoldMore).toBe(true));
    const alone = `i:mark-alone:${plainDigest.markId}`;
    expect(await application.pttl(alone)).toBeGreaterThan(TTL / 2);
    await application.del(alone);
    await eventually(() => expect(table.mayHoldMore).toBe(false));
    table.forget();
    expect(table.mayHoldMore).toBe(true);
  });
});
