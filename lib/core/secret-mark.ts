import type { Digest } from './digest';
import { IdempotencySetupError, UnreadableRecordError } from './errors';
import type { Tier } from './record';

/** The records are not made with this application's secret. */
class OtherSecretError extends IdempotencySetupError {}

/**
 * The first application of a namespace leaves a mark of its secret beside the records, and every later one compares:
 * under another secret each id would be another one, and a retry a second execution.
 * @param found the mark that stands
 * @param place names the records, such as `the table "idempotency_cache"`
 * @throws OtherSecretError if the records are not made with this application's secret
 */
export function assertSameSecret(found: string, digest: Digest, place: string): void {
  if (found === digest.markOfSecret) return;
  if (!digest.isKeyed) throw secretError(place, 'with a `secret`, and this application has none', SAME);
  if (found === digest.markOfNone)
    throw secretError(place, 'without a `secret`, and this application has one', NONE);
  throw secretError(place, 'with another `secret` than that of this application', SAME);
}

/** For records that stand without a mark beside a secret: they were made before there were marks. */
export function unmarkedError(place: string): OtherSecretError {
  return secretError(place, 'without a mark of this `secret`', NONE);
}

/** For an instance that started all the same, as the store could not be asked: under no policy does a handler run. */
export function forRequests(tier: Tier, error: unknown): unknown {
  return error instanceof OtherSecretError ? new UnreadableRecordError(tier, 'check', error) : error;
}

const SAME = 'Configure the `secret` that they were made with';
const NONE = 'Remove `secret`';

function secretError(place: string, made: string, remedy: string): OtherSecretError {
  return new OtherSecretError(
    `the records in ${place} were made ${made}, so retries of what they answer would run again. ${remedy}, or begin ` +
      'with a `namespace` that is new or a table that is empty, as docs/privacy.md says.',
  );
}
