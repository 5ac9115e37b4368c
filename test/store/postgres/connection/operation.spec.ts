import { performance } from 'node:perf_hooks';
import { Operation } from '../../../../lib/store/postgres/connection/operation';

describe('an operation on Postgres', () => {
  it('has its whole time from its turn on, which it is told once', () => {
    let turns = 0;
    const operation = new Operation('claim', { timeout: 1_000, deadline: 5, onStart: () => turns++ });
    expect(operation.deadline).toBe(5);
    const before = performance.now();
    operation.start();
    const { deadline } = operation;
    expect(deadline).toBeGreaterThanOrEqual(before + 1_000);
    operation.start();
    expect([operation.deadline, turns]).toEqual([deadline, 1]);
  });

  it('waits for its turn as long as Postgres may take, unless it is told otherwise', () => {
    const operation = new Operation('claim', { timeout: 1_000 });
    expect(operation.deadline).toBe(operation.began + 1_000);
  });

  it('gets its time again once, where the process was too busy to look, and not while it waits', () => {
    const operation = new Operation('claim', { timeout: 100 });
    expect(operation.extend(10_000)).toBe(false);
    operation.start();
    expect([operation.extend(0), operation.extend(10_000), operation.extend(10_000)]).toEqual([
      false,
      true,
      false,
    ]);
  });
});
