import { goalsOf } from '../../bench/goals';
import { pairs } from '../../bench/pairs';
import type { Effect } from '../../bench/plan';
import { figuresAt, type CellResult, type Results, type Turn } from '../../bench/results';
import { summary } from '../../bench/summary';

const LOAD = { workload: 'first requests', effect: 'none', connections: 32 } as const;

function turn(more: { responses?: number; p50?: number } & Partial<Turn['used']> = {}): Turn {
  const { responses = 1_000, p50 = 1, ...used } = more;
  return {
    ...{ perSecond: responses, responses, failures: 0, p50, p95: 2 * p50, p99: 3 * p50 },
    executions: responses,
    used: {
      ...{ subjectCpu: 0, postgresCpu: 0, redisCpu: 0, allocated: 0, gcMs: 0 },
      ...{ commits: 0, walBytes: 0, redisCommands: 0, redisReads: 0 },
      ...used,
    },
  };
}

function resultsOf(turns: CellResult['turns'], effect: Effect = 'none'): Results {
  return {
    ...{ measured: '2026-01-01', machine: 'a machine', pinned: true, rounds: 3, seconds: 1 },
    bareOf: Object.fromEntries(Object.keys(turns).map((name) => [name, 'bare'])),
    cells: [{ ...LOAD, effect, bytes: 200, turns }],
    storms: [],
    inFlight: {},
  };
}

describe("a benchmark's figures", () => {
  it('add what is beyond bare in the same round, however much rounds differ', () => {
    const results = resultsOf({
      bare: [50, 90, 70].map((subjectCpu) => turn({ subjectCpu })),
      durable: [150, 200, 160].map((subjectCpu) => turn({ subjectCpu })),
    });
    const added = figuresAt(results, LOAD, 'durable')?.addedUse('subjectCpu');
    expect(added?.median).toBeCloseTo(0.1);
    expect(added?.min).toBeCloseTo(0.09);
    expect(added?.max).toBeCloseTo(0.11);
  });

  it('take claims and completions for a batch, and not the rows of handlers', () => {
    const of = (effect: Effect, commits: number): number | undefined =>
      figuresAt(
        resultsOf({ bare: [turn()], durable: [turn({ commits })] }, effect),
        { ...LOAD, effect },
        'durable',
      )?.batch.median;
    expect(of('none', 200)).toBe(10);
    expect(of('row', 1_200)).toBe(10);
    const bare = resultsOf({ bare: [turn({ commits: 200 })] });
    expect(figuresAt(bare, LOAD, 'bare')?.batch.median).toBeNaN();
    expect(of('row', 1_000)).toBeNaN();
    expect(of('none', 3)).toBeNaN();
  });

  it('compare before and after round by round', () => {
    const results = resultsOf({
      bare: [turn(), turn(), turn()],
      'durable, before': [90e6, 190e6, 140e6].map((allocated) => turn({ allocated })),
      durable: [80e6, 170e6, 136e6].map((allocated) => turn({ allocated })),
    });
    expect(pairs(results)).toContain('| allocated kB | 140.0 | 136.0 | -10.0 (-20.0 to -4.0) |');
    expect(pairs(resultsOf({ bare: [turn()], durable: [turn()] }))).toBe('');
  });

  it('leave columns out of the summary that no subject was measured for', () => {
    const text = summary(resultsOf({ bare: [turn()], durable: [turn({ subjectCpu: 100 })] }));
    expect(text).toContain('| durable | 100 / 0 / 0 | 0.00 / 0.00 |');
    expect(text).not.toContain('writes a row');
  });

  it('are none where nothing was measured', () => {
    const { used, ...rest } = turn();
    const older = { ...rest, used: { ...used, allocated: undefined } as unknown as Turn['used'] };
    expect(
      figuresAt(resultsOf({ bare: [older], durable: [older] }), LOAD, 'durable')?.used('allocated').median,
    ).toBeNaN();
  });

  it('hold the transaction mode against its rival, against durable, and against bare', () => {
    const row = (p50: number, used: { postgresCpu: number; walBytes: number; commits: number }): Turn =>
      turn({ p50, ...used });
    const turns = {
      bare: [row(1, { postgresCpu: 100, walBytes: 1_000, commits: 1_000 })],
      durable: [row(3, { postgresCpu: 500, walBytes: 3_000, commits: 3_000 })],
      transaction: [row(1.5, { postgresCpu: 200, walBytes: 2_200, commits: 1_001 })],
      '@node-idempotency/nestjs': [row(2, { postgresCpu: 110, walBytes: 1_000, commits: 1_000 })],
    };
    const results = resultsOf(turns, 'row');
    const cells = [1, 32].map((connections) => ({ ...results.cells[0]!, connections }));
    const found = goalsOf({ ...results, cells }).filter(({ goal }) => goal.includes('`transaction`'));
    expect(found.map(({ figure, reached }) => [figure, reached])).toEqual([
      ['0.50', true],
      ['0.25', true],
      ['1.00', true],
      ...[0, 1].flatMap(() => [
        ['0.25', true],
        ['0.60', false],
      ]),
      ['0.00', true],
    ]);
  });
});
