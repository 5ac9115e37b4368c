import { RecentKeys } from '../../lib/store/recent-keys';

const GENERATION = 4_096;

describe('the keys that were added last', () => {
  let keys: RecentKeys;
  beforeEach(() => (keys = new RecentKeys()));
  const fill = (count: number, name: string): void => {
    for (let n = 0; n < count; n++) keys.add(`${name}-${n}`);
  };

  it('are known for a whole generation after they came', () => {
    keys.add('a');
    fill(GENERATION, 'b');
    expect([keys.has('a'), keys.has('never')]).toEqual([true, false]);
  });

  it('are forgotten after two, so that their memory is bounded', () => {
    keys.add('a');
    fill(2 * GENERATION, 'b');
    expect(keys.has('a')).toBe(false);
    expect(keys.has(`b-${2 * GENERATION - 1}`)).toBe(true);
  });

  it('stay as long as they are asked for', () => {
    keys.add('a');
    for (let n = 0; n < 6; n++) {
      fill(GENERATION - 1, `b${n}`);
      expect(keys.has('a')).toBe(true);
    }
  });
});
