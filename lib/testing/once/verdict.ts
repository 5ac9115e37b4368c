import { isOrphaned, type Claim, type IdempotencyRecord } from '../../core/record';
import { isReplay, isSame, textOf, type Attempt } from './attempt';
import type { Counts } from './effects';
import type { Scenario, Tries } from './scenarios';

/** What one scenario has come to. */
export interface Trial {
  readonly scenario: Scenario;
  readonly tries: Tries;
  /** Under which handlers have run. */
  readonly claims: readonly Claim[];
  readonly records: readonly IdempotencyRecord[];
  readonly effects: { readonly before: Counts; readonly after: Counts };
}

/** Why the request did not happen once; empty if it did. */
export function problemsOf(trial: Trial): string[] {
  const { tries, claims, records } = trial;
  const all = tries.failed ? [tries.failed, ...tries.answered] : tries.answered;
  if (claims.length === 0) return [unclaimed(all)];
  // Under `onOrphan: 'reject'`, retries are refused until an operator has settled the key.
  if (records.some(isOrphaned)) return effectProblems(trial);
  const error = tries.answered.find(({ kind }) => kind === 'error');
  if (error) return [`It failed: ${textOf(error)}`];
  return [...answerProblems(trial, all.length - tries.answered.length), ...effectProblems(trial)];
}

function unclaimed([first]: readonly Attempt[]): string {
  if (first?.kind === 'error') return `It failed before a key was claimed: ${textOf(first)}`;
  if (first?.kind === 'value')
    return 'No key was claimed: the function neither calls execute() nor sends a request to a protected route.';
  return first && first.response.status >= 400
    ? `It was refused before a key was claimed: ${textOf(first)}`
    : 'No key was claimed, so the handler ran without protection each time: its route lacks @Idempotent(), or the request has no key.';
}

function answerProblems({ scenario, tries, claims, records }: Trial, before: number): string[] {
  const [first, ...others] = tries.answered;
  if (!first) return [];
  const record = records.find(({ state }) => state === 'completed');
  if (record?.state !== 'completed')
    return [
      `Its response is not recorded, so each retry runs the handler again. Send a request that succeeds. It got: ${textOf(first)}`,
    ];
  const { outcome } = record;
  const headers = outcome.kind === 'response' ? outcome.headers.map(([name]) => name.toLowerCase()) : [];
  return [
    ...runProblems(scenario, tries.answered, claims),
    ...others.flatMap((other, i) =>
      isSame(first, other, headers)
        ? []
        : [
            `Try ${before + i + 2} got another answer: ${textOf(other)}. Try ${before + 1} got: ${textOf(first)}`,
          ],
    ),
  ];
}

/** After a crash, the claim that takes the key over runs the handler a second time. */
function runProblems(scenario: Scenario, answered: readonly Attempt[], claims: readonly Claim[]): string[] {
  const takenOver = scenario === 'after a crash' ? claims.filter(({ attempt }) => attempt === 2).length : 0;
  const ran = Math.max(claims.length, answered.filter(isRun).length);
  if (ran <= 1 + Math.min(takenOver, 1)) return [];
  const ids = new Map(
    claims.map(({ id }) => [id.hash, `key ${JSON.stringify(id.key)} in scope "${id.scope}"`]),
  );
  const why =
    ids.size > 1
      ? ` The tries were taken for different requests: ${[...ids.values()].join('; ')}.`
      : claims.length < ran
        ? ' Not all tries had a key.'
        : '';
  return [`The handler ran ${ran} times.${why}`];
}

/** A response that is neither a replay nor a refusal. */
function isRun(attempted: Attempt): boolean {
  return attempted.kind === 'response' && attempted.response.status < 400 && !isReplay(attempted);
}

function effectProblems({ scenario, effects: { before, after } }: Trial): string[] {
  const advice =
    scenario === 'after a crash'
      ? " The process ended after the handler and before its response was recorded, and `onOrphan: 'retry'` ran the handler again. " +
        "Commit effects with `transaction: true`, choose `onOrphan: 'reject'`, or have the handler look first where `claim.attempt` is above 1."
      : '';
  return [...after].flatMap(([name, count]) => {
    const happened = count - (before.get(name) ?? 0);
    return happened > 1 ? [`\`${name}\` happened ${happened} times.${advice}`] : [];
  });
}
