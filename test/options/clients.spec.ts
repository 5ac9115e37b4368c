import { Cluster, Redis } from 'ioredis';
import { Client, Pool } from 'pg';
import { ioredisClient, optionsAround, pgPool } from '../../lib/options/clients';
import { z } from 'zod';

const redis = new Redis({ lazyConnect: true });
const cluster = new Cluster(['localhost'], { lazyConnect: true });
const pool = new Pool();

describe('a client that is given as an option', () => {
  afterAll(() => pool.end());

  it.each([
    ['a Redis', redis],
    ['a Cluster', cluster],
  ])('may be %s of ioredis', (_, client) => {
    expect(ioredisClient.parse(client)).toBe(client);
  });

  it('may be a Pool of pg', () => {
    expect(pgPool.parse(pool)).toBe(pool);
  });

  const nodeRedis = { options: {}, isOpen: false, duplicate: () => undefined, sendCommand: () => undefined };
  const knexPool = { numUsed: () => 0, acquire: () => undefined, destroy: () => undefined };

  it.each<[string, unknown]>([
    ['a URL', 'redis://localhost'],
    ['settings', { host: 'localhost' }],
    ['null', null],
    ['a class', Redis],
    ['another library’s client', nodeRedis],
    ['a pipeline', redis.pipeline()],
    ['a pool of pg', pool],
  ])('may not be %s where one of ioredis is asked for', (_, value) => {
    expect(ioredisClient.safeParse(value).success).toBe(false);
  });

  it.each<[string, unknown]>([
    ['a URL', 'postgres://localhost'],
    ['settings', { connectionString: 'postgres://localhost' }],
    ['null', null],
    ['a class', Pool],
    ['a single client of pg', new Client()],
    ['another library’s pool', knexPool],
    ['a client of ioredis', redis],
  ])('may not be %s where a pool of pg is asked for', (_, value) => {
    expect(pgPool.safeParse(value).success).toBe(false);
  });

  it('is told where it belongs if it stands in place of the options', () => {
    const schema = optionsAround(pgPool, 'within options', z.strictObject({ pool: pgPool }));
    expect(schema.parse({ pool })).toEqual({ pool });
    expect(schema.safeParse(pool).error?.issues).toMatchObject([{ message: 'within options', path: [] }]);
  });
});
