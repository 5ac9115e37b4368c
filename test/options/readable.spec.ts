import { z } from 'zod';
import type { IdempotencyModuleOptions } from '../../lib';
import { unreadable } from '../../lib/options/readable';
import { resolveModuleOptions, resolvePolicy, resolveRouteOptions } from '../../lib/options/resolve';

const schema = z.strictObject({ tier: z.union([z.literal(false), z.strictObject({ ttl: z.number() })]) });

/** As an instance of a class, whose getters are not its own properties. */
function instance<T extends object>(options: T): T {
  const getters = Object.entries(options).map(
    ([name, value]) => [name, { get: (): unknown => value }] as const,
  );
  return Object.create(Object.defineProperties({}, Object.fromEntries(getters))) as T;
}

describe('options', () => {
  it.each<[unknown, string[]]>([
    [{ tier: { ttl: 1 } }, []],
    [{ tier: false }, []],
    [null, []],
    [instance({ tier: instance({ ttl: 1 }) }), []],
    [
      Promise.resolve(),
      ['must be an object of options, not a promise: await it, or have a factory return it'],
    ],
    [new Set(), ['must be an object of options, not an instance of Set']],
    [{ tier: new Map() }, ['option "tier" must be an object, not an instance of Map']],
  ])('are read from what has them: %j', (value, problems) => {
    expect(unreadable(schema, value)).toEqual(problems);
  });

  it('may be getters, at every level', () => {
    const settings: IdempotencyModuleOptions = instance({
      redis: instance({ ttl: '2s' } as const),
      lease: '1m',
    });
    const withoutPostgres = { DISABLE_DB_IDEMPOTENCY_FALLBACK: 'true' };
    expect(resolveModuleOptions(settings).redis).toMatchObject({ ttl: 2_000 });
    const { postgres, defaults } = resolveModuleOptions(settings, withoutPostgres);
    expect([postgres, defaults.lease]).toEqual([false, 60_000]);
    const route = instance({ required: true, transaction: instance({ timeout: 900 }) });
    const { required, policy } = resolveRouteOptions('here', route, {
      transaction: { isolation: 'SERIALIZABLE' },
    });
    expect(required).toBe(true);
    expect(policy.transaction).toMatchObject({ timeout: 900, isolation: 'SERIALIZABLE' });
    const job = instance({ onOrphan: 'reject' } as const);
    expect(resolvePolicy('execute()', job, {}).onOrphan).toBe('reject');
  });
});
