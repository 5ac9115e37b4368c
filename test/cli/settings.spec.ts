import { Command } from 'commander';
import { randomBytes } from 'node:crypto';
import { UsageError } from '../../lib/cli/exit';
import { addCommonOptions, placeOf, type CommonOptions, type Place } from '../../lib/cli/settings';

const DATABASE = 'postgres://127.0.0.1/app';
const REDIS = 'redis://127.0.0.1';

describe('where a verb works', () => {
  const before = { ...process.env };
  afterEach(() => {
    process.env = { ...before };
  });

  const placeWith = (env: Readonly<Record<string, string>>, ...args: string[]): Place => {
    process.env = { ...before, DATABASE_URL: DATABASE, REDIS_URL: REDIS, ...env };
    const command = addCommonOptions(new Command('list').exitOverride());
    return placeOf(command.parse(args, { from: 'user' }).opts<CommonOptions>(), process.env);
  };

  it('takes a variable that is empty as one that is not set', () => {
    const names = ['NAMESPACE', 'KEY_PREFIX', 'SCHEMA', 'TABLE', 'RETENTION', 'REDIS_SENTINEL'];
    const others = ['IDEMPOTENCY_SECRET', 'IDEMPOTENCY_ENCRYPTION_KEYS', 'PROMETHEUS_URL'];
    const empty = [...names.map((name) => `IDEMPOTENCY_${name}`), ...others].map(
      (name) => [name, ''] as const,
    );
    expect(placeWith(Object.fromEntries(empty))).toEqual(placeWith({}));
    for (const name of ['DATABASE_URL', 'REDIS_URL'])
      expect(() => placeWith({ [name]: '' })).toThrow(new RegExp(`is given. Set ${name}`));
  });

  it('takes a secret of any bytes in base64', () => {
    const bytes = randomBytes(32);
    const secretWith = (env: Readonly<Record<string, string>>) => placeWith(env).settings.secret?.export();
    const encoded = bytes.toString('base64');
    for (const given of [encoded, `${encoded}\n`])
      expect(secretWith({ IDEMPOTENCY_SECRET_BASE64: given, IDEMPOTENCY_SECRET: '' })).toEqual(bytes);
    expect(secretWith({ IDEMPOTENCY_SECRET_BASE64: '', IDEMPOTENCY_SECRET: encoded })).toEqual(
      Buffer.from(encoded),
    );
    expect(() => secretWith({ IDEMPOTENCY_SECRET_BASE64: encoded, IDEMPOTENCY_SECRET: encoded })).toThrow(
      'both set',
    );
    expect(() => secretWith({ IDEMPOTENCY_SECRET_BASE64: 'not base64, no key' })).toThrow(/is not base64 \(/);
    expect(() => secretWith({ IDEMPOTENCY_SECRET_BASE64: 'c2hvcnQ=' })).toThrow('at least 32 bytes');
  });

  it.each(['--schema', '--table', '--redis-sentinel', '--namespace'])('refuses an empty %s', (flag) => {
    expect(() => placeWith({}, flag, '')).toThrow(flag.slice(2));
  });

  it.each([
    'http://127.0.0.1:6379',
    'redis://127.0.0.1/cache',
    'redis://127.0.0.1/1/2',
    'redis://:100%secret@127.0.0.1',
    'redis://us%ZZer:secret@127.0.0.1',
    'unix:redis.sock',
    'unix:///run/redis.sock?db=cache',
    'unix://:100%secret@/run/redis.sock',
  ])('refuses a REDIS_URL that ioredis cannot use: %s', (url) => {
    const refusal = expect.objectContaining({ message: expect.not.stringContaining('secret') }) as unknown;
    for (const urls of [url, `${REDIS},${url}`])
      expect(() => placeWith({ REDIS_URL: urls }, '--redis-cluster')).toThrow(UsageError);
    expect(() => placeWith({ REDIS_URL: url })).toThrow(refusal as Error);
  });

  it.each([
    ['localhost:6379', 'redis://localhost:6379'],
    ['rediss://user:p%40ss@host:6380/3', 'rediss://user:p%40ss@host:6380/3'],
    ['redis://host?db=3', 'redis://host?db=3'],
    ['redis://[::1]:6379/', 'redis://[::1]:6379/'],
    ['/run/redis.sock', 'unix:///run/redis.sock'],
    ['unix://:secret@/run/redis.sock?db=3', 'unix://:secret@/run/redis.sock?db=3'],
  ])('takes the REDIS_URL %s', (given, taken) => {
    expect(placeWith({ REDIS_URL: given }).redis?.urls).toEqual([taken]);
  });

  it.each(['--redis-cluster', '--redis-sentinel=name'])('refuses a Unix socket with %s', (flag) => {
    expect(() => placeWith({ REDIS_URL: '/run/redis.sock' }, flag)).toThrow('REDIS_URL is not a URL');
  });

  it('refuses a DATABASE_URL without a scheme, which pg would take for another server', () => {
    expect(() => placeWith({ DATABASE_URL: 'localhost:5433/app' })).toThrow('DATABASE_URL is not a URL');
    const sockets = [
      'postgresql:///app?host=/run',
      'socket:/run?db=app',
      'postgres://u:secret@/app?host=/run',
    ];
    for (const url of [...sockets, 'postgres://', 'postgres://u:100%@host/app'])
      expect(placeWith({ DATABASE_URL: url }).databaseUrl).toBe(url);
  });
});
