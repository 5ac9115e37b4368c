import { connectionsOf, laneLimits, turnOf } from '../../../../lib/store/postgres/connection/turns';

describe('the lanes to Postgres', () => {
  it('let renewals go before outcomes, claims and reads', () => {
    const lanes = ['renew', 'complete', 'claim', 'find'].map(turnOf);
    expect(lanes.map(({ lane }) => lane)).toEqual([0, 1, 2, 3]);
    expect(new Set(lanes.map(({ queue }) => queue))).toEqual(new Set(['requests']));
  });

  it('keep a connection for outcomes and one for renewals, where the pool has them', () => {
    expect(laneLimits(4)).toEqual([4, 3, 2, 2]);
    expect(laneLimits(2)).toEqual([2, 2, 1, 1]);
  });

  it('have looks of operators wait for neither requests nor upkeep, and the count of orphans not for them', () => {
    expect([turnOf('look').queue, turnOf('orphans').queue, turnOf('cleanup').queue]).toEqual([
      'looks',
      'upkeep',
      'upkeep',
    ]);
    expect(turnOf('orphans').lane).toBeLessThan(turnOf('cleanup').lane);
  });

  it('need as many connections as the documentation says: two more than the pool for requests', () => {
    expect(connectionsOf(4)).toBe(6);
  });
});
