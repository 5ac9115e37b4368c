/** What one check has found. `skipped`: it could not be made, and `problem` says why. */
export interface Finding {
  readonly check: string;
  readonly level: 'ok' | 'warning' | 'error' | 'skipped';
  readonly problem?: string;
  readonly fix?: string;
}

type Problem = readonly [level: 'warning' | 'error', problem: string, fix: string];

/** The problems of one check that hold; one that is ok if none does. */
export function findings(check: string, ...problems: readonly (Problem | false | undefined)[]): Finding[] {
  const found = problems.filter((each) => each !== false && each !== undefined);
  if (found.length === 0) return [{ check, level: 'ok' }];
  return found.map(([level, problem, fix]) => ({ check, level, problem, fix }));
}

/** Messages of this module say first what is wrong, then how to fix it. */
export function findingOf(check: string, error: Error): Finding {
  const message = error.message.replace(/^IdempotencyModule: /, '');
  const end = message.search(/\. [A-Z`]/);
  return end < 0
    ? { check, level: 'error', problem: message }
    : { check, level: 'error', problem: message.slice(0, end), fix: message.slice(end + 2) };
}
