import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Idempotent, IdempotencyModule, type IdempotencyModuleOptions } from '../../lib';
import { resolveModuleOptions, resolveRouteOptions } from '../../lib/options/resolve';
import { moduleOptions } from '../../lib/options/specification/module';

const PAGE = readFileSync(join(__dirname, '../../docs/guide/recorded-and-replayed.md'), 'utf8');

class OrdersController {
  create(): number {
    return 1;
  }
}

describe('options', () => {
  it('have the documented defaults', () => {
    const route = resolveRouteOptions('test', {});
    expect(route).toMatchObject({
      headers: ['Idempotency-Key', 'X-Idempotency-Key'],
      bareKeys: true,
      required: false,
      documentation: undefined,
      policy: {
        inFlight: 'wait',
        waitTimeout: 10_000,
        lease: 30_000,
        onOrphan: 'retry',
        onOutage: 'reject',
        durability: 'durable',
        maxKeyLength: 255,
        maxBodySize: 1_048_576,
      },
    });
    expect(resolveModuleOptions({})).toMatchObject({
      redis: { ttl: 86_400_000, timeout: 250, keyPrefix: 'idempotency:' },
      postgres: {
        retention: 2_592_000_000,
        cleanupInterval: 3_600_000,
        cleanupBatchSize: 1_000,
        timeout: 2_000,
        poolSize: 4,
        preparedStatements: true,
      },
    });
  });

  describe('transaction', () => {
    const transactionOf = (...layers: Parameters<typeof resolveRouteOptions>[1][]): unknown =>
      resolveRouteOptions('test', ...layers).policy.transaction;
    const settings = { isolation: undefined, timeout: 30_000, maxConcurrent: undefined };

    it('is off, and has its defaults once it is on', () => {
      expect(transactionOf({})).toBe(false);
      expect(transactionOf({ transaction: true })).toEqual(settings);
      expect(transactionOf({ transaction: {} })).toEqual(settings);
    });

    it('is switched on or off by the nearest layer, and takes each setting from the nearest that has it', () => {
      const outer = { transaction: { timeout: '5s', isolation: 'SERIALIZABLE' } } as const;
      expect(transactionOf({ transaction: true }, outer)).toEqual({
        ...settings,
        timeout: 5_000,
        isolation: 'SERIALIZABLE',
      });
      const inner = { transaction: { timeout: 100, isolation: undefined, maxConcurrent: 2 } };
      const both = { timeout: 100, isolation: 'SERIALIZABLE', maxConcurrent: 2 };
      expect(transactionOf(inner, {}, outer)).toEqual(both);
      expect(transactionOf({ transaction: false }, outer)).toBe(false);
      expect(transactionOf({ transaction: true }, { transaction: false })).toEqual(settings);
      expect(transactionOf(inner, resolveModuleOptions(outer).defaults)).toEqual(both);
    });

    it.each([
      { lease: '5s' },
      { onOrphan: 'retry' },
      { durability: 'fast' },
      { onOutage: 'execute' },
    ] as const)(
      'is contradicted by %j beside it, and by no option that an outer layer has for others',
      (other) => {
        const [name] = Object.keys(other);
        const message = `option "${name}" contradicts "transaction"`;
        const on = { transaction: true };
        expect(() => transactionOf({ ...on, ...other })).toThrow(message);
        expect(() => transactionOf(other, on)).toThrow(message);
        expect(() => Idempotent({ ...on, ...other })(OrdersController)).toThrow(message);
        expect(() => resolveModuleOptions({ ...on, ...other })).toThrow(message);
        expect(transactionOf(on, other)).toEqual(settings);
        expect(transactionOf({ transaction: false, ...other }, on)).toBe(false);
      },
    );

    it('goes with what changes nothing for it', () => {
      const options = { transaction: true, durability: 'durable', onOutage: 'reject' } as const;
      expect(transactionOf(options)).toEqual(settings);
    });
  });

  it('record all statuses below 500 but those that the documentation lists', () => {
    const [, listed = ''] = /^Responses below 500 are recorded, except ([\d, and]+)\./m.exec(PAGE) ?? [];
    const { records } = resolveRouteOptions('test', {});
    const below500 = Array.from({ length: 300 }, (_, index) => 200 + index);
    expect(below500.filter((status) => !records(status))).toEqual(listed.match(/\d+/g)?.map(Number));
    expect(Array.from({ length: 100 }, (_, index) => 500 + index).filter(records)).toEqual([]);
  });

  it.each<[number, boolean]>([
    [200, true],
    [204, true],
    [302, true],
    [404, true],
    [409, true],
    ...[400, 401, 403, 408, 422, 423, 425, 429, 500, 503].map(
      (status) => [status, false] as [number, boolean],
    ),
  ])('record %i by default: %s', (status, recorded) => {
    expect(resolveRouteOptions('test', {}).records(status)).toBe(recorded);
  });

  it('are merged one by one, the nearest layer first, and undefined hides nothing', () => {
    const route = resolveRouteOptions(
      'test',
      { lease: '1s', inFlight: undefined },
      { inFlight: 'reject', lease: '2s' },
      { waitTimeout: 5, required: true },
    );
    expect(route).toMatchObject({
      required: true,
      policy: { lease: 1_000, inFlight: 'reject', waitTimeout: 5 },
    });
  });

  it('take false and 0 for values', () => {
    const route = resolveRouteOptions(
      'test',
      { required: false, waitTimeout: 0 },
      { required: true, waitTimeout: '1s' },
    );
    expect(route).toMatchObject({ required: false, policy: { waitTimeout: 0 } });
  });

  it('normalize the documentation’s URL, so that nothing of it can end the header that carries it', () => {
    const documentation = 'HTTPS://Exämple.com/a b>; rel="x",<ü?"<">#">';
    expect(resolveRouteOptions('test', { documentation }).documentation).toMatch(
      /^https:\/\/xn--exmple-cua\.com\/[!-~]+$/,
    );
    expect(resolveRouteOptions('test', { documentation }).documentation).not.toMatch(/[<>" ]/);
  });

  it('read durations as milliseconds or text', () => {
    expect(resolveRouteOptions('test', { lease: '90s', waitTimeout: 250 }).policy).toMatchObject({
      lease: 90_000,
      waitTimeout: 250,
    });
  });

  it.each<[string, unknown, RegExp]>([
    ['an unknown option', { lese: 1 }, /option "lese" is unknown/],
    ['an unknown option of a tier', { redis: { tll: 1 } }, /option "redis\.tll" is unknown/],
    ['a negative duration', { lease: -5 }, /option "lease" is -5, but must be a duration/],
    [
      'a duration that is none',
      { waitTimeout: 'soon' },
      /option "waitTimeout" is 'soon', but must be a duration/,
    ],
    ['a credential header that is none', { credentialHeaders: ['X Acme'] }, /option "credentialHeaders\.0"/],
    ['every header as a credential', { credentialHeaders: ['*'] }, /a header name, not \* alone/],
    ['a lone credential header', { credentialHeaders: 'X-Acme' }, /must be a list of header names/],
    ['an empty duration', { lease: '' }, /option "lease" is ''/],
    ['NaN', { lease: NaN }, /option "lease" is NaN/],
    ['a duration longer than a timer', { waitTimeout: '30d' }, /option "waitTimeout" is '30d'/],
    [
      'a value that is not in the list',
      { inFlight: 'queue' },
      /"inFlight" is 'queue', but must be one of 'wait', 'reject'/,
    ],
    [
      'a header name with a space',
      { header: 'Idempotency Key' },
      /"header" is 'Idempotency Key', but must be a header name/,
    ],
    [
      'a documentation that is no URL',
      { documentation: '/docs' },
      /"documentation" is '\/docs', but must be an absolute http or https URL/,
    ],
    [
      'a documentation of another scheme',
      { documentation: 'javascript:alert(1)' },
      /"documentation" is 'javascript/,
    ],
    ['a text for a switch', { bareKeys: 'no' }, /"bareKeys" is 'no', but must be true or false/],
    ['no header at all', { header: [] }, /"header" is \[\]/],
    ['a fraction of a byte', { maxBodySize: 1.5 }, /"maxBodySize" is 1\.5, but must be a whole number/],
    ['something else than a function', { key: 'id' }, /"key" is 'id', but must be a function/],
    ['a bad value inside a tier', { postgres: { cleanupBatchSize: 0 } }, /"postgres\.cleanupBatchSize" is 0/],
    ['true for a tier', { redis: true }, /"redis" is true/],
    ['no tier at all', { redis: false, postgres: false }, /both disabled/],
    ['a store beside Redis', { store: 'memory', redis: {} }, /store takes the place of redis and postgres/],
    ['a store beside Postgres', { store: 'memory', postgres: {} }, /remove them, or remove store/],
    [
      'encryption of a store of its own',
      { store: Symbol('store'), encryption: { keys: ['0'.repeat(64)] } },
      /encryption is of Redis and Postgres alone/,
    ],
    [
      'a store that is none',
      { store: { claim: () => 1 } },
      /"store" is .* must be an IdempotencyStore \(an object/s,
    ],
    ['the name of no store', { store: 'redis' }, /"store" is 'redis', but must be .* or 'memory'/],
    [
      'a switch as text',
      { transaction: 'true' },
      /"transaction" is 'true', but must be true, false or an object/,
    ],
    ['null', null, /must be an object, not null/],
    [
      'a promise, as of a forgotten await',
      Promise.resolve({ secret: 'x'.repeat(32) }),
      /^IdempotencyModule options: must be an object of options, not a promise: await it, or have a factory return it$/,
    ],
    ['a Map', new Map([['lease', '1m']]), /must be an object of options, not an instance of Map$/],
    [
      'a promise for a tier',
      { redis: Promise.resolve({}) },
      /option "redis" must be an object, not a promise/,
    ],
    [
      'a Map for a tier',
      { postgres: new Map() },
      /option "postgres" must be an object, not an instance of Map/,
    ],
    [
      'a date',
      { transaction: new Date(0) },
      /option "transaction" must be an object, not an instance of Date/,
    ],
    [
      'an option that cannot be read',
      {
        get secret(): string {
          throw new TypeError('no vault');
        },
      },
      /^IdempotencyModule options: option "secret" cannot be read: its getter failed with TypeError: no vault$/,
    ],
    [
      'an option of a tier that cannot be read',
      {
        redis: {
          get ttl(): string {
            throw new TypeError('no vault');
          },
        },
      },
      /option "redis\.ttl" cannot be read/,
    ],
  ])('of forRoot are refused at once: %s', (_, options, message) => {
    expect(() => IdempotencyModule.forRoot(options as IdempotencyModuleOptions)).toThrow(message);
  });

  it.each(Object.keys(moduleOptions))('say what they may be, not only that they are wrong: %s', (name) => {
    const start = (): unknown => IdempotencyModule.forRoot({ [name]: NaN });
    expect(start).toThrow(new RegExp(`option "${name}" is .*, but must be `));
    expect(start).not.toThrow(/Invalid input/);
  });

  it('of the decorator are refused where it stands', () => {
    const given = { onOrphan: 'never' as 'retry' };
    const wrong = /option "onOrphan" is 'never', but must be one of 'retry', 'reject'/;
    expect(() => {
      class OrdersController {
        @Idempotent(given)
        create(): number {
          return 1;
        }
      }
      return OrdersController;
    }).toThrow(/^@Idempotent\(\) on OrdersController\.create: /);
    expect(() => {
      @Idempotent(given)
      class OrdersController {}
      return OrdersController;
    }).toThrow(/^@Idempotent\(\) on OrdersController: /);
    expect(() => Idempotent(given)(OrdersController)).toThrow(wrong);
    expect(() => Idempotent({ redis: false } as object)(OrdersController)).toThrow(
      /option "redis" is unknown here/,
    );
  });
});
