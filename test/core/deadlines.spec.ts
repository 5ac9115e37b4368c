import { performance } from 'node:perf_hooks';
import { Alarm, Deadlines, type Deadline } from '../../lib/core/deadlines';
import { eventually } from '../support/eventually';

class Waiting implements Deadline {
  expiredAt: number | undefined;
  expired = 0;
  constructor(public dueAt: number) {}
  expire(): void {
    this.expired++;
    this.expiredAt = performance.now();
  }
}

describe('Deadlines', () => {
  const soon = (ms: number): Waiting => new Waiting(performance.now() + ms);

  it('gives up each once and at its own time, also one that is added later and due earlier', async () => {
    const deadlines = new Deadlines();
    const [never, late, early] = [soon(60_000), soon(80), soon(20)];
    for (const each of [never, late, early]) deadlines.add(each);
    await eventually(() => expect(late.expiredAt).toBeDefined());
    for (const { dueAt, expiredAt } of [early, late]) expect(expiredAt).toBeGreaterThanOrEqual(dueAt - 1);
    expect([never, late, early].map(({ expired }) => expired)).toEqual([0, 1, 1]);
  });

  it('does not give up what was deleted, and gives up at its new time what was put off', async () => {
    const deadlines = new Deadlines();
    const [deleted, postponed, last] = [soon(10), soon(10), soon(60)];
    for (const each of [deleted, postponed, last]) deadlines.add(each);
    deadlines.delete(deleted);
    postponed.dueAt += 30;
    await eventually(() => expect(last.expiredAt).toBeDefined());
    expect(deleted.expiredAt).toBeUndefined();
    expect(postponed.expiredAt).toBeGreaterThanOrEqual(postponed.dueAt - 1);
  });

  it('gives nothing up that has become due since its timer came: what was answered meanwhile is read first', () => {
    const deadlines = new Deadlines();
    const [timers, looks]: [(() => void)[], (() => void)[]] = [[], []];
    // Set by hand: timers of other deadlines that are still under way must not take the part of this one.
    const timed = jest.spyOn(global, 'setTimeout').mockImplementation((due) => {
      timers.push(due);
      return { unref: () => undefined } as unknown as NodeJS.Timeout;
    });
    const looked = jest.spyOn(global, 'setImmediate').mockImplementation((look) => {
      looks.push(look);
      return {} as NodeJS.Immediate;
    });
    try {
      const [first, next] = [soon(0), soon(60_000)];
      for (const each of [first, next]) deadlines.add(each);
      timers.pop()!();
      next.dueAt = performance.now() + 2; // after the timer has come, and before the look
      while (performance.now() <= next.dueAt);
      looks.pop()!();
      expect([first, next].map(({ expired }) => expired)).toEqual([1, 0]);
      timers.pop()!(); // it has not been answered meanwhile
      looks.pop()!();
      expect(next.expired).toBe(1);
    } finally {
      timed.mockRestore();
      looked.mockRestore();
    }
  });

  it('outlives a timer that never comes, as one that was set under the fake timers of a test', async () => {
    const deadlines = new Deadlines();
    const [lost, next] = [soon(10), soon(30)];
    jest.useFakeTimers({ doNotFake: ['performance', 'nextTick', 'queueMicrotask'] });
    try {
      deadlines.add(lost);
    } finally {
      jest.useRealTimers();
    }
    deadlines.add(next);
    await eventually(() => expect(next.expired).toBe(1));
    expect(lost.expired).toBe(1);
    expect(next.expiredAt).toBeGreaterThanOrEqual(next.dueAt - 1);
  });

  it('is still there for the next when all before have settled', async () => {
    const deadlines = new Deadlines();
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

  it('sets a timer only if no look comes soon enough, also where a sooner one has come in between', async () => {
    const timer = jest.spyOn(global, 'setTimeout');
    try {
      const deadlines = new Deadlines();
      for (let n = 0; n < 100; n++) {
        const each = soon(60_000);
        deadlines.add(each);
        deadlines.delete(each);
      }
      expect(timer).toHaveBeenCalledTimes(1);
      const [sooner, later] = [soon(10), soon(61_000)];
      for (const each of [sooner, later]) deadlines.add(each);
      expect(timer).toHaveBeenCalledTimes(2);
      await eventually(() => expect(sooner.expired).toBe(1));
      const long = timer.mock.calls.filter(([, pause]) => pause! > 30_000);
      expect(long).toHaveLength(1); // that of the first hundred is still to come
    } finally {
      timer.mockRestore();
    }
  });
});

describe('an alarm', () => {
  it('rings at the soonest of its times, and can be set again', async () => {
    const rings: number[] = [];
    const alarm = new Alarm(() => rings.push(performance.now()));
    const start = performance.now();
    for (const ms of [60, 20, 90]) alarm.set(start + ms);
    await eventually(() => expect(rings).toHaveLength(1));
    expect(rings[0]! - start).toBeGreaterThanOrEqual(19);
    expect(alarm.dueAt).toBe(Infinity);
    alarm.set(start + 120);
    await eventually(() => expect(rings).toHaveLength(2));
    expect(rings[1]! - start).toBeGreaterThanOrEqual(119);
  });

  it('does not ring once it is cleared', async () => {
    const rings: string[] = [];
    const [cleared, other] = ['cleared', 'other'].map((name) => new Alarm(() => rings.push(name)));
    cleared!.set(performance.now() + 10);
    other!.set(performance.now() + 30);
    cleared!.clear();
    await eventually(() => expect(rings).toEqual(['other']));
  });
});
