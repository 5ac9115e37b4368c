import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import {
  recordId,
  type Claim,
  type HeaderList,
  type Outcome,
  type ResponseOutcome,
} from '../../lib/core/record';
import { isRecorded } from '../../lib/outcome/recorded-headers';
import { isBodiless } from '../../lib/outcome/stored-outcome';

/** All that Node lets a response end with. */
export const statuses = fc.integer({ min: 200, max: 999 });

export const headerNames = fc
  .stringMatching(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}$/)
  .filter((name) => isRecorded(name.toLowerCase()) && name.toLowerCase() !== 'content-length');

/** Tabs and Latin-1, as Node allows them. */
export const headerValues = fc.stringMatching(/^[\t\x20-\x7e\x80-\xff]{0,40}$/);

const headerLists: fc.Arbitrary<HeaderList> = fc.array(
  fc.tuple(headerNames, fc.oneof(headerValues, fc.array(headerValues))),
);

export const responses: fc.Arbitrary<ResponseOutcome> = fc
  .record({
    kind: fc.constant('response' as const),
    status: statuses,
    headers: headerLists,
    body: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  })
  .map((outcome) => (isBodiless(outcome.status) ? { ...outcome, body: Buffer.alloc(0) } : outcome));

/** Every outcome that can be recorded. */
export const outcomes: fc.Arbitrary<Outcome> = fc.oneof(
  responses,
  fc.record({
    kind: fc.constant('tombstone' as const),
    status: fc.integer({ min: 100, max: 999 }),
    reason: fc.constantFrom('too_large' as const, 'unstorable' as const),
  }),
);

/** Claims of whatever record. */
export const claims: fc.Arbitrary<Claim> = fc.record({
  id: fc.tuple(fc.string(), fc.string()).map(([scope, key]) => recordId(scope, key)),
  fingerprint: fc.stringMatching(/^[0-9a-f]{64}$/),
  token: fc.uuid(),
  fence: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  attempt: fc.integer({ min: 1, max: 1_000_000 }),
});

export function newClaim(given: Partial<Claim> = {}): Claim {
  const id = recordId('POST /leads', randomUUID());
  return { id, fingerprint: 'a'.repeat(64), token: randomUUID(), fence: 1, attempt: 1, ...given };
}
