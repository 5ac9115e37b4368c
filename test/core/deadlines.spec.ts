import { performance } from 'node:perf_hooks';
import { Deadlines, type Deadline } from '../../lib/core/deadlines';
import { eventually } from '../support/eventually';

class Waiting implements Deadline {
  expiredAt: number | undefined;
  constructor(public dueAt: number) {}
  expire(): void {
    this.expiredAt = performance.now();
  }
}

describe('Deadlines', () => {
  const soon = (ms: number): Waiting => new Waiting(performance.now() + ms);

  it('gives up each at its own time, also one that is added later and due earlier', async () => {
    const deadlines = new Deadlines<Waiting>();
    const [late, early] = [soon(80), soon(20)];
    deadlines.add(late);
    deadlines.add(early);
    await eventually(() => expect(late.expiredAt).toBeDefined());
    expect(early.expiredAt).toBeLessThan(late.expiredAt!);
    for (const { dueAt, expiredAt } of [early, late]) expect(expiredAt).toBeGreaterThanOrEqual(dueAt - 1);
    expect(deadlines.all).toEqual([]);
  });

  it('does not give up what was deleted, and gives up at its new time what was put off', async () => {
    const deadlines = new Deadlines<Waiting>();
    const [deleted, postponed, last] = [soon(10), soon(10), soon(60)];
    for (const each of [deleted, postponed, last]) deadlines.add(each);
    deadlines.delete(deleted);
    postponed.dueAt += 30;
    await eventually(() => expect(last.expiredAt).toBeDefined());
    expect(deleted.expiredAt).toBeUndefined();
    expect(postponed.expiredAt).toBeGreaterThanOrEqual(postponed.dueAt - 1);
  });

  it('is still there for the next when all before have settled', async () => {
    const deadlines = new Deadlines<Waiting>();
    const settled = soon(10);
    deadlines.add(settled);
    deadlines.delete(settled);
    const next = soon(30);
    deadlines.add(next);
    await eventually(() => expect(next.expiredAt).toBeDefined());
    const after = soon(10);
    deadlines.add(after);
    await eventually(() => expect(after.expiredAt).toBeDefined());
    expect(settled.expiredAt).toBeUndefined();
  });

  it('makes one timer for many', () => {
    const timer = jest.spyOn(global, 'setTimeout');
    try {
      const deadlines = new Deadlines<Waiting>();
      for (let n = 0; n < 100; n++) {
        const each = soon(1_000);
        deadlines.add(each);
        deadlines.delete(each);
      }
      expect(timer).toHaveBeenCalledTimes(1);
    } finally {
      timer.mockRestore();
    }
  });
});
