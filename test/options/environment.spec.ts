import { Logger } from '@nestjs/common';
import { withEnvironment } from '../../lib/options/environment';

describe('the environment', () => {
  let warned: unknown[];
  beforeEach(() => {
    warned = [];
    jest.spyOn(Logger.prototype, 'warn').mockImplementation((line) => void warned.push(line));
  });
  afterEach(() => jest.restoreAllMocks());

  it.each(['true', 'TRUE', '1', 'yes', 'Yes', 'on', ' true ', ' 1\n'])(
    'DISABLE_DB_IDEMPOTENCY_FALLBACK=%j switches Postgres off',
    (value) => {
      expect(withEnvironment({ postgres: {} }, { DISABLE_DB_IDEMPOTENCY_FALLBACK: value }).postgres).toBe(
        false,
      );
    },
  );

  it('DISABLE_DB_IDEMPOTENCY_FALLBACK leaves a store of its own alone', () => {
    const options = { store: 'memory' } as const;
    expect(withEnvironment(options, { DISABLE_DB_IDEMPOTENCY_FALLBACK: 'true' })).toBe(options);
    expect(warned).toEqual([]);
  });

  it.each(['false', 'False', '0', 'no', 'off', '', '  ', undefined])(
    'DISABLE_DB_IDEMPOTENCY_FALLBACK=%j leaves Postgres on',
    (value) => {
      expect(withEnvironment({ postgres: {} }, { DISABLE_DB_IDEMPOTENCY_FALLBACK: value }).postgres).toEqual(
        {},
      );
    },
  );

  it.each(['ture', '2', 'disabled', 'y', 'null'])(
    'DISABLE_DB_IDEMPOTENCY_FALLBACK=%j stops the start, with what is allowed',
    (value) => {
      expect(() => withEnvironment({}, { DISABLE_DB_IDEMPOTENCY_FALLBACK: value })).toThrow(
        `DISABLE_DB_IDEMPOTENCY_FALLBACK is '${value}', expected true, 1, yes or on, or false, 0, no, off or nothing`,
      );
    },
  );

  it.each([
    'DISABLE_DB_IDEMPOTENCY_FALBACK',
    'DISABLE_DB_IDEMPOTENCE_FALLBACK',
    'disable_db_idempotency_fallback',
    'DISABLE_IDEMPOTENCY_FALLBACK',
  ])('%s stops the start, with what is meant', (name) => {
    expect(() => withEnvironment({}, { PATH: '/bin', [name]: 'true' })).toThrow(
      `The environment: variable ${name} is unknown (did you mean DISABLE_DB_IDEMPOTENCY_FALLBACK?)`,
    );
  });

  it.each(['DISABLE_DB_FALLBACK', 'DB_IDEMPOTENCY_FALLBACK', 'DISABLE_DB_IDEMPOTENCY_FALLBACK_TESTS'])(
    '%s is of others',
    (name) => expect(withEnvironment({ postgres: {} }, { [name]: 'true' }).postgres).toEqual({}),
  );

  it('says once what is lost with Postgres, and nothing where it was off already', () => {
    const on = { DISABLE_DB_IDEMPOTENCY_FALLBACK: 'true' };
    expect(withEnvironment({ postgres: false }, on)).toEqual({ postgres: false });
    expect(warned).toEqual([]);
    withEnvironment({}, on);
    expect(warned).toEqual([expect.stringContaining('a handler can run twice')]);
  });
});
