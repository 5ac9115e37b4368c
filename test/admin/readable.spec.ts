import { age, bytes, percent, seconds } from '../../lib/admin/readable';

describe('what operators read', () => {
  it('has the unit that keeps numbers short', () => {
    expect([0, 119, 120, 7_199, 7_200, 172_800].map(seconds)).toEqual([
      '0 s',
      '119 s',
      '2 min',
      '120 min',
      '2 h',
      '2 d',
    ]);
    expect(age(new Date(0), 90_000)).toBe('90 s');
    expect([9_999, 10_000, 1_500_000, 2e9].map(bytes)).toEqual(['9999 B', '10 kB', '1.5 MB', '2 GB']);
    expect([0, 0.12345, 1].map(percent)).toEqual(['0.0 %', '12.3 %', '100.0 %']);
  });
});
