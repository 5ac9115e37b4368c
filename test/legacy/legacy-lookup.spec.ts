import { MessageChannel } from 'node:worker_threads';
import { isIdempotencyError } from '../../lib/core/errors';
import type { Outcome } from '../../lib/core/record';
import { lookUpLegacy, type LegacyQuestion } from '../../lib/legacy/legacy-lookup';
import { SafeLogger } from '../../lib/observability/safe-logger';

const OUTCOME: Outcome = { kind: 'response', status: 201, headers: [], body: Buffer.from('old') };

let routes = 0;
const question = (ask: () => unknown, more: Partial<LegacyQuestion> = {}): LegacyQuestion => ({
  name: `Route.${++routes}`,
  lease: 2_000,
  ask,
  outcomeOf: () => OUTCOME,
  ...more,
});
const settings = (onError: 'reject' | 'execute', timeout = 60_000) => ({ timeout, onError });
const fails = (): never => {
  throw new Error('the old Redis is gone');
};

describe('a lookup', () => {
  let errors: unknown[][];
  beforeEach(() => {
    errors = [];
    jest.spyOn(SafeLogger.prototype, 'error').mockImplementation((...said) => void errors.push(said));
  });
  afterEach(() => jest.restoreAllMocks());

  const codeOf = async (asking: Promise<unknown>): Promise<unknown> => {
    const error: unknown = await asking.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    return isIdempotencyError(error) ? [error.code, error.details.retryAfter] : error;
  };

  it.each<[string, () => unknown]>([
    ['at once', () => 'found'],
    ['later', () => Promise.resolve('found')],
  ])('that finds an answer %s is asked once', async (_, ask) => {
    const asked = jest.fn(ask);
    const outcomeOf = jest.fn(() => OUTCOME);
    expect(await lookUpLegacy(settings('reject'), question(asked, { outcomeOf }))).toBe(OUTCOME);
    expect(asked).toHaveBeenCalledTimes(1);
    expect(outcomeOf).toHaveBeenCalledWith('found');
  });

  it.each([undefined, null])('that gives %s knows nothing of the key', async (nothing) => {
    expect(
      await lookUpLegacy(
        settings('reject'),
        question(() => nothing),
      ),
    ).toBeUndefined();
    expect(
      await lookUpLegacy(
        settings('reject'),
        question(async () => nothing),
      ),
    ).toBeUndefined();
  });

  it('that says in_flight is a 409 to come back after, and fingerprint_mismatch a 422, under both policies', async () => {
    for (const onError of ['reject', 'execute'] as const) {
      const says = (answer: string): Promise<unknown> =>
        codeOf(
          lookUpLegacy(
            settings(onError),
            question(() => answer),
          ),
        );
      expect(await says('in_flight')).toEqual(['in_flight', 2]);
      expect(await says('fingerprint_mismatch')).toEqual(['fingerprint_mismatch', undefined]);
    }
    expect(errors).toEqual([]);
  });

  it.each([
    ['throws', fails],
    ['rejects', () => Promise.reject(new Error('the old Redis is gone'))],
  ])('that %s is told to come back, or runs the handler where that is allowed', async (_, ask) => {
    expect(await codeOf(lookUpLegacy(settings('reject'), question(ask)))).toEqual(['store_unavailable', 5]);
    expect(await lookUpLegacy(settings('execute'), question(ask))).toBeUndefined();
    expect(errors.map(([message]) => message)).toEqual([
      `The \`legacy\` lookup of Route.${routes - 1} failed, so nothing is executed`,
      `The \`legacy\` lookup of Route.${routes} failed, so its handler runs`,
    ]);
  });

  it('that never answers fails at its time-out, and its late failure harms nothing', async () => {
    let failLate!: () => void;
    const ask = (): Promise<never> =>
      new Promise((_, reject) => (failLate = () => reject(new Error('too late'))));
    expect(await codeOf(lookUpLegacy(settings('reject', 20), question(ask)))).toEqual([
      'store_unavailable',
      5,
    ]);
    expect(String(errors[0]?.[1])).toContain('There was no answer within 20 ms');
    const unhandled = jest.fn();
    process.once('unhandledRejection', unhandled);
    failLate();
    await new Promise((resolve) => setImmediate(resolve));
    process.off('unhandledRejection', unhandled);
    expect(unhandled).not.toHaveBeenCalled();
  });

  it('that is answered while the process is busy for longer than its time-out has its answer', async () => {
    const ask = (): Promise<string> => {
      const { port1, port2 } = new MessageChannel();
      const answered = new Promise<string>((resolve) => port2.once('message', resolve));
      port1.postMessage('found');
      port1.unref();
      const until = performance.now() + 100;
      while (performance.now() < until);
      return answered.finally(() => port2.close());
    };
    expect(await lookUpLegacy(settings('reject', 20), question(ask))).toBe(OUTCOME);
  });

  it.each(['reject', 'execute'] as const)(
    'with an answer that cannot be replayed runs nothing under %s, as the handler may have run',
    async (onError) => {
      const outcomeOf = fails;
      expect(
        await codeOf(
          lookUpLegacy(
            settings(onError),
            question(() => 'found', { outcomeOf }),
          ),
        ),
      ).toEqual(['store_unavailable', 5]);
      expect(errors[0]?.[0]).toContain('gave what cannot be replayed');
    },
  );

  it('that fails for each request is logged once', async () => {
    const asked = question(fails);
    for (let time = 0; time < 3; time += 1) await codeOf(lookUpLegacy(settings('reject'), asked));
    expect(errors.length).toBe(1);
  });
});
