import { performance } from 'node:perf_hooks';
import { deadlines } from '../../lib/core/deadlines';
import { hedged } from '../../lib/store/cache-deadline';
import { forgetDeadlines } from '../support/forget-deadlines';

describe('what Redis is asked', () => {
  it('is known at once where Redis is quick', async () => {
    const { early, answer } = hedged(() => Promise.resolve('found'));
    expect(await early).toBe('found');
    expect(await answer).toBe('found');
  });

  it('is not waited for where Redis is slow, but still comes', async () => {
    let tell!: (value: string) => void;
    const { early, answer } = hedged(() => new Promise<string>((resolve) => (tell = resolve)));
    expect(await early).toBeUndefined();
    tell('found');
    expect(await answer).toBe('found');
  });

  it('makes one timer, with the longer time that the connection waits', async () => {
    forgetDeadlines();
    const timer = jest.spyOn(global, 'setTimeout');
    try {
      const { early } = hedged(async () => {
        deadlines.add({ dueAt: performance.now() + 250, expire: () => undefined });
      });
      await early;
      expect(timer).toHaveBeenCalledTimes(1);
    } finally {
      timer.mockRestore();
    }
  });
});
