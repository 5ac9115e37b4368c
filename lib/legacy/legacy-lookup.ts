import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import type { Outcome } from '../core/record';
import { inFlight, legacyUnavailable, mismatch } from '../core/refusals';
import { News } from '../observability/news';
import { SafeLogger } from '../observability/safe-logger';
import type { LegacySettings } from '../options/resolve';

const logger = new SafeLogger('Idempotency');
const news = new News();

export interface LegacyQuestion {
  /** What asks, for the log: the name of a route, for example. */
  readonly name: string;
  /** Milliseconds for which the key is held. */
  readonly lease: number;
  readonly ask: () => unknown;
  /** What is recorded of an answer. @throws for one that is none */
  readonly outcomeOf: (answer: unknown) => Outcome;
}

/**
 * Asks the system that kept responses before this module, once. Undefined if it does not know the key.
 * @throws IdempotencyError `in_flight` or `fingerprint_mismatch` if it says so; `store_unavailable` if it cannot be asked
 * in time, unless `onError` allows the handler to run, and under either policy if its answer cannot be replayed: the
 * handler may have run then
 */
export async function lookUpLegacy(
  { timeout, onError }: Pick<LegacySettings, 'timeout' | 'onError'>,
  { name, lease, ask, outcomeOf }: LegacyQuestion,
): Promise<Outcome | undefined> {
  let answer: unknown;
  try {
    answer = await within(timeout, ask);
  } catch (error) {
    const then = onError === 'execute' ? 'its handler runs' : 'nothing is executed';
    report(`The \`legacy\` lookup of ${name} failed, so ${then}`, error);
    if (onError === 'execute') return undefined;
    throw legacyUnavailable(error);
  }
  if (answer === undefined || answer === null) return undefined;
  if (answer === 'in_flight') throw inFlight(lease);
  if (answer === 'fingerprint_mismatch') throw mismatch();
  try {
    return outcomeOf(answer);
  } catch (error) {
    report(`The \`legacy\` lookup of ${name} gave what cannot be replayed, so nothing is executed`, error);
    throw legacyUnavailable(error);
  }
}

/** Each request may meet the same failure, so it is logged once, and again after a quiet minute. */
function report(message: string, error: unknown): void {
  if (news.isNew(message)) logger.error(message, error);
}

/** What answers after its time is left alone. */
async function within(timeout: number, ask: () => unknown): Promise<unknown> {
  const timer = new AbortController();
  const late = async (): Promise<never> => {
    await delay(timeout, undefined, { signal: timer.signal });
    // A process that was busy finds its timer due before it has read what was answered meanwhile: that goes first.
    await nextTurn(undefined, { signal: timer.signal });
    throw new Error(`There was no answer within ${timeout} ms`);
  };
  try {
    return await Promise.race([Promise.resolve().then(ask), late()]);
  } finally {
    timer.abort();
  }
}
