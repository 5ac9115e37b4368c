import * as api from '../../lib';
import { IdempotencyError, StoreUnavailableError } from '../../lib';

type Api = typeof api;

/** One of each error that the package exports, made by the copy of it that is given. */
const made = (copy: Api): Record<string, Error> => {
  const refusal = new copy.IdempotencyError('in_flight', 'still running');
  return {
    IdempotencyError: refusal,
    IdempotencyException: new copy.IdempotencyException(refusal),
    IdempotencySetupError: new copy.IdempotencySetupError('no table'),
    InvalidOptionsError: new copy.InvalidOptionsError('options', ['ttl']),
    LeaseLostError: new copy.LeaseLostError('lost'),
    StoreUnavailableError: new copy.StoreUnavailableError('postgres', 'claim', 'refused'),
    TransactionEndedError: new copy.TransactionEndedError(),
    UnreadableRecordError: new copy.UnreadableRecordError('redis', 'claim', 'sealed'),
  };
};

const guards = Object.entries(api).filter(([name]) => /^is[A-Z]/.test(name)) as [
  string,
  (error: unknown) => boolean,
][];

describe('an exported error', () => {
  let other!: Api;
  jest.isolateModules(() => (other = jest.requireActual<Api>('../../lib')));

  it('has a guard of its name, whichever error it is', () => {
    const errors = Object.keys(api).filter(
      (name) => /(Error|Exception)$/.test(name) && !name.startsWith('is'),
    );
    expect(errors.sort()).toEqual(Object.keys(made(api)).sort());
    expect(guards.map(([name]) => name).sort()).toEqual(errors.map((name) => `is${name}`).sort());
  });

  it.each(Object.keys(made(api)))('is told by its own guard alone, also from another copy: %s', (name) => {
    for (const copy of [api, other]) {
      const error = made(copy)[name];
      const held = guards.filter(([, guard]) => guard(error)).map(([guard]) => guard);
      expect(held).toEqual([`is${name}`]);
    }
  });

  it('is of another class in another copy, so that instanceof does not tell', () => {
    expect(made(other).IdempotencyError).not.toBeInstanceOf(IdempotencyError);
    expect(made(other).StoreUnavailableError).not.toBeInstanceOf(StoreUnavailableError);
  });

  it.each([undefined, null, 1, 'error', new Error('other'), {}])('is not %p', (value) => {
    expect(guards.filter(([, guard]) => guard(value))).toEqual([]);
  });
});
