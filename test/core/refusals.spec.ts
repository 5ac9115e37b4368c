import {
  OverloadedError,
  type StoreError,
  StoreUnavailableError,
  UnreadableRecordError,
  UnrecordedOutcomeError,
} from '../../lib/core/errors';
import { inFlight, unavailable } from '../../lib/core/refusals';
import { inProgressRecord } from '../support/records';

const outage = new StoreUnavailableError('postgres', 'claim', new Error('refused'));

describe('a refusal', () => {
  it.each([
    [100, 1],
    [2_100, 3],
    [60_000, 5],
    [-1, 1],
  ])('in flight, with %i ms left of the lease, says to retry after %i s', (leaseRemaining, seconds) => {
    expect(inFlight(30_000, inProgressRecord({ leaseRemaining })).details.retryAfter).toBe(seconds);
    expect(inFlight(leaseRemaining).details.retryAfter).toBe(seconds);
  });

  it.each<[string, StoreError, object]>([
    ['a store that is gone is an outage', outage, { isOutage: true, error: { code: 'store_unavailable' } }],
    [
      'a record that cannot be read is none, as its handler may have run',
      new UnreadableRecordError('postgres', 'claim', 'sealed'),
      { isOutage: false, error: { code: 'store_unavailable' } },
    ],
    [
      'an outcome that waits for the store is none, as its handler has run',
      new UnrecordedOutcomeError(outage),
      { isOutage: false, error: { code: 'outcome_not_recorded' } },
    ],
    [
      'our own full queue is none, and says what was full',
      new OverloadedError('postgres', 'claim', 'claims_queued'),
      { isOutage: false, shed: 'claims_queued', error: { code: 'overloaded' } },
    ],
  ])('lets handlers run unprotected only for an outage: %s', (_, error, expected) => {
    expect(unavailable(error)).toMatchObject({ kind: 'unavailable', ...expected });
    expect(unavailable(error).error.details.retryAfter).toBeGreaterThan(0);
  });
});
