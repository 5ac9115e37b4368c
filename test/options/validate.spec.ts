import { z } from 'zod';
import { isInvalidOptionsError, validate } from '../../lib/options/validate';

const tier = z.strictObject({
  ttl: z.number({ error: 'a number' }),
  name: z.string({ error: 'a text' }).optional(),
});
const schema = z.strictObject({
  tier: z.union([z.literal(false), tier], { error: 'false, or its options' }).optional(),
  secret: z.string({ error: 'a text' }).optional(),
});

const messageOf = (value: unknown): string => {
  try {
    validate(schema, value, 'forRoot()');
  } catch (error) {
    expect(isInvalidOptionsError(error)).toBe(true);
    return (error as Error).message;
  }
  return 'valid';
};

describe('what is wrong with options', () => {
  it.each<[unknown, string]>([
    [{ tier: { ttl: 1 } }, 'valid'],
    [{ tier: false }, 'valid'],
    [{ teir: 1 }, 'forRoot(): option "teir" is unknown (did you mean "tier"?): known are tier, secret'],
    [{ Tier: false }, 'forRoot(): option "Tier" is unknown (did you mean "tier"?): known are tier, secret'],
    [{ ttl: 1 }, 'forRoot(): option "ttl" is unknown (did you mean "tier.ttl"?): known are tier, secret'],
    [{ tll: 1 }, 'forRoot(): option "tll" is unknown (did you mean "tier.ttl"?): known are tier, secret'],
    [{ expiry: 1 }, 'forRoot(): option "expiry" is unknown: known are tier, secret'],
    [
      { tier: { ttl: 1, tll: 2 } },
      'forRoot(): option "tier.tll" is unknown (did you mean "tier.ttl"?): known are ttl, name',
    ],
    [
      { tier: { ttl: 1, secret: 2 } },
      'forRoot(): option "tier.secret" is unknown (did you mean "secret"?): known are ttl, name',
    ],
    [{ tier: { ttl: 'x' } }, 'forRoot(): option "tier.ttl" is \'x\', but must be a number'],
    [{ tier: true }, 'forRoot(): option "tier" is true, but must be false, or its options'],
    [{ tier: [] }, 'forRoot(): option "tier" is [], but must be false, or its options'],
    [null, 'forRoot(): must be an object, not null'],
    [
      { tier: { ttl: 'x', name: 1 } },
      'forRoot(): option "tier.ttl" is \'x\', but must be a number; option "tier.name" is 1, but must be a text',
    ],
  ])('is said by name, value and what is allowed: %j', (value, message) => {
    expect(messageOf(value)).toBe(message);
  });

  it('says where an option belongs that is known elsewhere', () => {
    const others = { schema, place: 'forRoot()' };
    const narrow = z.strictObject({ name: z.string().optional() });
    const messageHere = (value: unknown): string => {
      try {
        validate(narrow, value, '@Route()', others);
      } catch (error) {
        return (error as Error).message;
      }
      return 'valid';
    };
    expect(messageHere({ tier: 1 })).toBe('@Route(): option "tier" is unknown here: it belongs to forRoot()');
    expect(messageHere({ ttl: 1 })).toBe(
      '@Route(): option "ttl" is unknown (did you mean "tier.ttl" of forRoot()?): known are name',
    );
  });

  it('shows nothing of a secret', () => {
    const message = messageOf({ secret: { key: 'hunter2' } });
    expect(message).toContain('option "secret" is not valid (its value is not shown)');
    expect(message).not.toContain('hunter2');
  });
});
