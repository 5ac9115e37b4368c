import { IdempotencyError } from '../core/errors';
import { isUnreadable, type Outcome } from '../core/record';

/** A value that was returned by work that is not an HTTP request, as it is recorded. */
export function valueOutcome(value: unknown, maxBodySize: number): Outcome {
  const body = jsonOf(value);
  if (!body) return { kind: 'tombstone', status: 200, reason: 'unstorable' };
  if (body.length > maxBodySize) return { kind: 'tombstone', status: 200, reason: 'too_large' };
  return { kind: 'response', status: 200, headers: [], body };
}

function jsonOf(value: unknown): Buffer | undefined {
  try {
    // Undefined has no JSON form; an empty body stands for it.
    return Buffer.from((JSON.stringify(value) as string | undefined) ?? '');
  } catch {
    return undefined;
  }
}

/** @throws IdempotencyError `outcome_not_stored` */
export function valueOf(outcome: Outcome | undefined): unknown {
  if (outcome?.kind !== 'response')
    throw notStored(
      outcome && isUnreadable(outcome) ? 'cannot be read from the store' : 'could not be stored',
    );
  if (outcome.body.length === 0) return undefined;
  try {
    return JSON.parse(outcome.body.toString());
  } catch {
    // An operator may settle a key with a response in place of a value. The parser's error would quote it.
    throw notStored('is stored as something else than JSON');
  }
}

function notStored(why: string): IdempotencyError {
  return new IdempotencyError(
    'outcome_not_stored',
    `The work was executed before, but its result ${why}, so it cannot be returned again.`,
  );
}
