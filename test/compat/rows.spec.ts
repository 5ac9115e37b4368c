import { mayBeRefused, ROWS, uncoveredPairs } from './rows';

describe('the compatibility rows', () => {
  it('hold every pair of versions that the peer ranges allow', () => {
    expect(uncoveredPairs()).toEqual([]);
  });

  it('hold no row that adds no pair, but for those that say why they are there', () => {
    const spare = ROWS.filter(
      (row) => row.versions === 'newest' && row.typescript !== '7.0' && !mayBeRefused(row),
    ).filter((row) => uncoveredPairs(ROWS.filter((other) => other !== row)).length === 0);
    expect(spare).toEqual([]);
  });

  it('hold the oldest versions, the newest TypeScript, and ioredis 6 as npm installs it unasked', () => {
    expect(ROWS.filter(({ versions }) => versions === 'oldest')).toHaveLength(1);
    expect(ROWS.filter(({ typescript }) => typescript === '7.0')).toHaveLength(1);
    expect(ROWS.filter(mayBeRefused)).toHaveLength(1);
  });
});
