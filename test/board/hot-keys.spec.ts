import { channel } from 'node:diagnostics_channel';
import { HotKeys } from '../../lib/board/hot-keys';

const tell = (event: string, message: object): void =>
  channel(`nestjs-idempotency:${event}`).publish(message);

describe('HotKeys', () => {
  const counted = new HotKeys();
  beforeAll(() => counted.onApplicationBootstrap());
  afterAll(() => counted.onApplicationShutdown());

  it('finds a hot key among many, in bounded memory', () => {
    for (let index = 0; index < 30_000; index += 1) {
      tell('claimed', { hash: `cold ${index}`, route: 'POST /leads' });
      tell('refused', { hash: `cold ${index}`, route: 'POST /leads' });
      if (index % 1_000 === 0) tell('replayed', { hash: 'hot', route: 'POST /leads' });
      tell('refused', { hash: undefined, route: 'POST /leads' }); // it has no valid key
    }
    const { keys, since } = counted.hottest(30_000);
    expect(keys[0]).toMatchObject({ hash: 'hot', route: 'POST /leads', claimed: 0, refused: 0 });
    expect(keys[0]!.total).toBe(keys[0]!.replayed);
    expect(keys[1]).toMatchObject({ claimed: 1, refused: 1, total: 2 });
    expect(keys.length).toBeLessThanOrEqual(10_000);
    expect(counted.hottest(5).keys).toHaveLength(5);
    expect(since.getTime()).toBeLessThanOrEqual(Date.now());
  });

  it('counts no more once its application is closed', () => {
    counted.onApplicationShutdown();
    const before = counted.hottest(1).keys[0];
    tell('replayed', { hash: 'hot' });
    expect(counted.hottest(1).keys[0]).toEqual(before);
    expect(channel('nestjs-idempotency:replayed').hasSubscribers).toBe(false);
  });
});
