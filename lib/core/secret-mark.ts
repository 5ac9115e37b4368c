import { Digest } from './digest';
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

/** What stands beside a mark that is missing. */
export interface UnmarkedRecord {
  /** Hexadecimal. */
  readonly id: string;
  readonly scope: string;
  readonly key: string;
}

/**
 * Where the mark is missing (it was deleted, or the records are from before there were marks), the records say it
 * themselves: their ids follow from scope and key.
 * @param shared whether other namespaces have marks there: records that are not this application's may be theirs
 * @throws OtherSecretError if records may be this application's, and are made with another secret
 */
export function assertOwnRecords(
  records: readonly UnmarkedRecord[],
  digest: Digest,
  { place, shared }: { readonly place: string; readonly shared: boolean },
): void {
  const madeBy = (other: Digest): boolean =>
    records.some(({ id, scope, key }) => other.idOf(scope, key) === id);
  if (records.length === 0 || madeBy(digest)) return;
  const { namespace, isKeyed } = digest;
  if (isKeyed && madeBy(new Digest({ namespace })))
    throw secretError(place, 'without a `secret`, and this application has one', NONE);
  if (namespace !== undefined || (shared && !isKeyed)) return;
  throw secretError(place, `with ${isKeyed ? 'another' : 'a'} \`secret\` or with a \`namespace\``, SAME);
}

/** For an instance that started anyway, as the store could not be asked: under no policy does a handler run. */
export function forRequests(tier: Tier, error: unknown): unknown {
  return error instanceof OtherSecretError ? new UnreadableRecordError(tier, 'check', error) : error;
}

const SAME = 'Configure the `secret` that they were made with';
const NONE = 'Remove `secret`';

function secretError(place: string, made: string, remedy: string): OtherSecretError {
  return new OtherSecretError(
    `the records in ${place} were made ${made}, so retries of what they answer would run again. ${remedy}, or begin ` +
      'with a `namespace` that is new or a table that is empty, as docs/operate/privacy.md says.',
  );
}
