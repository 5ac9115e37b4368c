import fc from 'fast-check';
import { valueOf, valueOutcome } from '../../lib/outcome/value-outcome';
import { json, runs } from '../support/arbitraries';

describe('the outcome of work that is no HTTP request', () => {
  it('gives its value back as JSON gives it back', () => {
    fc.assert(
      fc.property(fc.option(json, { nil: undefined }), (value) => {
        const expected = value === undefined ? undefined : (JSON.parse(JSON.stringify(value)) as unknown);
        expect(valueOf(valueOutcome(value, Infinity))).toEqual(expected);
      }),
      runs(300),
    );
  });

  it.each<[string, unknown, string]>([
    ['that has no JSON', 1n, 'unstorable'],
    ['that is too large by a byte', 'xxx', 'too_large'],
  ])('of a value %s is a tombstone, and every retry is told so', (_, value, reason) => {
    const outcome = valueOutcome(value, 4);
    expect(outcome).toEqual({ kind: 'tombstone', status: 200, reason });
    expect(() => valueOf(outcome)).toThrow(expect.objectContaining({ code: 'outcome_not_stored' }) as Error);
  });

  it('that holds no JSON, as where an operator has settled it with a response, is told as such', () => {
    const outcome = { kind: 'response', status: 200, headers: [], body: Buffer.from('secret') } as const;
    const told = { code: 'outcome_not_stored', message: expect.not.stringContaining('secret') as string };
    expect(() => valueOf(outcome)).toThrow(expect.objectContaining(told) as Error);
  });

  it('counts the bytes of its JSON, not its characters', () => {
    expect(valueOutcome('éé', 6).kind).toBe('response');
    expect(valueOutcome('ééé', 6).kind).toBe('tombstone');
  });
});
