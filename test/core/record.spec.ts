import { bytesOfOutcome, isOrphaned, isPending } from '../../lib/core/record';
import { aResponse, completedRecord, inProgressRecord } from '../support/records';

describe('a record', () => {
  it('is orphaned from the moment its lease has lapsed, and never once it is completed', () => {
    const left = (leaseRemaining: number): boolean => isOrphaned(inProgressRecord({ leaseRemaining }));
    expect([1, 0, -1].map(left)).toEqual([false, true, true]);
    expect(isOrphaned(completedRecord({ expiresIn: -1 }))).toBe(false);
  });

  it('is pending only where its outcome is Redis’ word alone', () => {
    expect(isPending(completedRecord({ pending: true, tier: 'redis' }))).toBe(true);
    expect([completedRecord({ tier: 'redis' }), inProgressRecord()].map(isPending)).toEqual([false, false]);
  });

  it('has the bytes of its headers, each line with its name, and of its body', () => {
    const headers = [
      ['A', 'é'],
      ['Vary', ['x', 'yz']],
    ] as const;
    const body = Buffer.alloc(10);
    expect(bytesOfOutcome(aResponse({ headers, body }))).toBe(10 + (1 + 2) + (4 + 1) + (4 + 2));
    expect(bytesOfOutcome({ kind: 'tombstone', status: 200, reason: 'too_large' })).toBe(0);
  });
});
