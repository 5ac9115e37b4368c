import { ROWS, uncoveredPairs } from './rows';

describe('the compatibility rows', () => {
  it('hold every pair of versions that the peer ranges allow', () => {
    expect(uncoveredPairs()).toEqual([]);
  });

  it('are all needed for that', () => {
    const spare = ROWS.filter(
      (row) => row.versions === 'newest' && (row.ioredis === '5' || row.override),
    ).filter((row) => uncoveredPairs(ROWS.filter((other) => other !== row)).length === 0);
    expect(spare).toEqual([]);
  });

  it('hold the oldest versions, and ioredis 6 as npm installs it by itself', () => {
    expect(ROWS.filter(({ versions }) => versions === 'oldest')).toHaveLength(1);
    expect(ROWS.filter(({ ioredis, override }) => ioredis === '6' && !override)).toHaveLength(1);
  });
});
