import type { INestApplication } from '@nestjs/common';
import { inspect } from 'node:util';
import { InvalidOptionsError } from '../../options/validate';
import { IdempotencyTesting, type Injector } from '../idempotency-testing';
import { attempt, type Attempt } from './attempt';
import { countsOf, type Effects } from './effects';
import { send, whileListening, type OnceAnswer, type OnceRequest } from './http-client';
import { play, SCENARIOS, type Scenario } from './scenarios';
import { problemsOf } from './verdict';

export interface ExpectOnceOptions {
  /** How many times the request is sent again in each case. @default 2 */
  readonly duplicates?: number;
  /**
   * Counts what the handler does, such as rows or mails: a function, or several by their names. No count may rise by more
   * than one in each case. @default nothing is counted but the handler's runs
   */
  readonly effects?: Effects;
  /** Which cases are tried, each with its own records. @default all */
  readonly scenarios?: readonly Scenario[];
}

/**
 * Sends a request as a client with retries would: twice, at once, after a lost reply and after a crash. Resolves to its
 * first response. The application has to be made with {@link IdempotencyTesting.replaceIn} or
 * `IdempotencyTestingModule`, and need not listen. Its records afterwards are those from before.
 *
 * After a crash, the default policy (`onOrphan: 'retry'`) runs the handler a second time, as its claim says
 * (`claim.attempt` 2). That is not a failure, but an effect that then happens twice is.
 * @param request it is sent as it is, so it needs the header with the key where the route takes it from there
 * @throws Error if the handler ran more than once, if answers differ, or if an effect happened twice
 * @throws InvalidOptionsError; IdempotencySetupError if the application has other stores
 */
export function expectOnce(
  app: INestApplication,
  request: OnceRequest,
  options?: ExpectOnceOptions,
): Promise<OnceAnswer>;
/**
 * As above, for a function that works with `IdempotencyService.execute()`, or that sends the request with supertest,
 * `inject()` or `fetch`. Resolves to the first value.
 */
export function expectOnce<T>(
  app: Injector,
  work: () => T | PromiseLike<T>,
  options?: ExpectOnceOptions,
): Promise<T>;
export async function expectOnce(
  app: INestApplication | Injector,
  request: OnceRequest | (() => unknown),
  options: ExpectOnceOptions = {},
): Promise<unknown> {
  const { duplicates = 2, effects, scenarios = SCENARIOS } = options;
  assertOptions(duplicates, scenarios);
  const testing = IdempotencyTesting.of(app);
  const isWork = typeof request === 'function';
  const name = isWork ? request.name || 'the function' : `${request.method ?? 'POST'} ${request.path}`;
  const once = (): Promise<Attempt> =>
    attempt(isWork ? request : () => send(app as INestApplication, request));
  const playAll = async (): Promise<unknown> => {
    let first: Attempt | undefined;
    for (const scenario of scenarios) {
      const [answered] = await testing.withoutRecords(async () => {
        const before = await countsOf(effects);
        const earlier = testing.claims().length;
        const tries = await play(scenario, once, duplicates, testing);
        const problems = problemsOf({
          scenario,
          tries,
          claims: testing.claims().slice(earlier),
          records: testing.records(),
          effects: { before, after: await countsOf(effects) },
        });
        if (problems.length > 0) throw failure(name, scenario, problems);
        return tries.answered;
      });
      first ??= answered;
    }
    return first?.kind === 'error' ? undefined : first?.value;
  };
  return testing.inTurn(() => ('getHttpServer' in app ? whileListening(app, playAll) : playAll()));
}

/** No AssertionError: Jest would print what it compares, and nothing is compared here. */
function failure(name: string, scenario: Scenario, problems: readonly string[]): Error {
  const message = `expectOnce: ${name} did not happen once when it was sent ${scenario}.`;
  return new Error([message, ...problems.map((each) => `- ${each}`)].join('\n'));
}

function assertOptions(duplicates: number, scenarios: readonly Scenario[]): void {
  const problems: string[] = [];
  if (!Number.isInteger(duplicates) || duplicates < 1)
    problems.push(`option "duplicates" is ${inspect(duplicates)}, but must be a whole number from 1`);
  const unknown = scenarios.filter((each) => !SCENARIOS.includes(each));
  if (unknown.length > 0 || scenarios.length === 0)
    problems.push(
      `option "scenarios" is ${inspect(scenarios)}, but must be a list of ${SCENARIOS.map((each) => `'${each}'`).join(', ')}`,
    );
  if (problems.length > 0) throw new InvalidOptionsError('expectOnce() options', problems);
}
