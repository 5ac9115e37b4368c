import { News } from '../../lib/observability/news';

describe('News', () => {
  it('is the first of a kind, and the first after a quiet minute, however long the others go on', () => {
    const news = new News();
    expect(news.isNew('42P01', 0)).toBe(true);
    expect(news.isNew('42501', 1)).toBe(true);
    for (let now = 1_000; now <= 3_600_000; now += 1_000) expect(news.isNew('42P01', now)).toBe(false);
    expect(news.isNew('42P01', 3_659_999)).toBe(false);
    expect(news.isNew('42P01', 3_719_999)).toBe(true);
  });

  it('of ever new kinds ends, so that neither log nor memory fills', () => {
    const news = new News();
    const lines = Array.from({ length: 10_000 }, (_, kind) => news.isNew(String(kind), kind)).filter(Boolean);
    expect(lines).toHaveLength(100);
  });
});
