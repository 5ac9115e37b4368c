import type { Row } from './effect-rules';
import { Faults } from './faults';
import type { Execution } from './ledger';
import { judge, type Evidence, type Sighting, type Stored } from './oracle';

const LEASE = 3_000;

function execution(at: number, more: Partial<Execution> = {}): Execution {
  return { scope: 'retry', key: 'k', instance: 'A', pid: 1, attempt: 1, fence: 1, nonce: `n${at}`, at, failed: false, ...more }; // prettier-ignore
}

function sighting(nonce: string | undefined, more: Partial<Sighting> = {}): Sighting {
  return { route: 'retry', key: 'k', instance: 'A', from: 0, to: 1, status: 201, nonce, problem: undefined, overdue: false, ...more }; // prettier-ignore
}

/** A fault of this kind from 4 s to 5 s. */
function fault(kind: string, instance: string): Faults {
  const faults = new Faults();
  faults.list.push({ kind, instance, from: 4_000, to: 5_500 });
  return faults;
}

function broken(evidence: Partial<Evidence>): string[] {
  const { violations } = judge({
    executions: [],
    sightings: [],
    redis: [],
    postgres: [],
    effects: [],
    faults: new Faults(),
    lease: LEASE,
    ...evidence,
  });
  return violations.map(({ promise }) => promise);
}

const takenOver = [execution(1_000), execution(9_000, { instance: 'B', attempt: 2, fence: 2 })];

describe('the oracle', () => {
  it('has nothing against one execution and one answer, however often it was seen', () => {
    const seen = [sighting('n1000'), sighting('n1000'), sighting(undefined, { status: undefined })];
    expect(broken({ executions: [execution(1_000)], sightings: seen })).toEqual([]);
  });

  it('sees a second execution', () => {
    expect(broken({ executions: takenOver })).toEqual(['a handler runs once']);
  });

  it.each(['killed', 'frozen', 'postgres link: refuse'])(
    'permits a takeover of an owner that was %s',
    (kind) => {
      expect(broken({ executions: takenOver, faults: fault(kind, 'A') })).toEqual([]);
    },
  );

  it.each([
    ['another process was hit', fault('killed', 'B'), {}],
    ['only Redis was hit', fault('redis killed', '*'), {}],
    ['the attempt does not rise', fault('killed', 'A'), { attempt: 1 }],
    ['orphans are to be rejected', fault('killed', 'A'), { scope: 'reject' }],
  ])('permits no takeover where %s', (_, faults, more: Partial<Execution>) => {
    const [first, second] = takenOver as [Execution, Execution];
    const executions = [
      { ...first, scope: more.scope ?? 'retry' },
      { ...second, ...more },
    ];
    expect(broken({ executions, faults })).toEqual(['a handler runs once']);
  });

  it('permits another execution after one that failed, and gave its key back', () => {
    const executions = [execution(1_000, { failed: true }), execution(1_010, { fence: 2 })];
    expect(broken({ executions })).toEqual([]);
  });

  it('sees a fence that does not rise', () => {
    const executions = [execution(1_000, { failed: true, fence: 2 }), execution(2_000, { fence: 2 })];
    expect(broken({ executions })).toEqual(['fences rise']);
  });

  it('sees two answers to one key, also after a takeover', () => {
    const sightings = [sighting('n1000'), sighting('n9000')];
    expect(broken({ executions: takenOver, sightings, faults: fault('killed', 'A') })).toEqual([
      'every answer is the same',
    ]);
  });

  it('sees an answer that no execution gave', () => {
    expect(broken({ executions: [execution(1_000)], sightings: [sighting('invented')] })).toEqual([
      'an answer implies an execution',
    ]);
  });

  it.each([
    ['has no nonce', [sighting('n1000'), sighting(undefined)]],
    ['has another body', [sighting('n1000', { body: 'a' }), sighting('n1000', { body: 'b' })]],
  ])('sees a 2xx that %s', (_, sightings) => {
    expect(broken({ executions: [execution(1_000)], sightings })).toEqual(['an answer is whole']);
  });

  it('sees an answer that is taken back, and an outcome that is unknown without a fault', () => {
    const unknown = sighting(undefined, { status: 409, problem: 'outcome-unknown', from: 9_000, to: 9_001 });
    const executions = [execution(1_000)];
    expect(broken({ executions, sightings: [unknown] })).toEqual([
      'an outcome is unknown only where its owner broke down',
    ]);
    expect(broken({ executions, sightings: [unknown], faults: fault('killed', 'A') })).toEqual([]);
    expect(
      broken({ executions, sightings: [sighting('n1000'), unknown], faults: fault('killed', 'A') }),
    ).toEqual(['an answer is not taken back']);
  });

  it('permits no takeover for a fault that costs no lease', () => {
    const faults = fault('postgres link: hold', 'A');
    faults.list[0]!.to = 4_001;
    expect(broken({ executions: takenOver, faults })).toEqual(['a handler runs once']);
  });

  it('sees a second execution beside one that is going to fail', () => {
    const executions = [execution(1_000, { failed: true, takes: 500 }), execution(1_010, { fence: 2 })];
    expect(broken({ executions })).toEqual(['a handler runs once']);
  });

  it('sees a request that outlived its deadline', () => {
    expect(broken({ sightings: [sighting(undefined, { status: undefined, overdue: true })] })).toEqual([
      'no request outlives its deadline',
    ]);
  });

  it.each([
    ['has no row', []],
    ['has another answer', [{ key: 'h', fence: 1, nonce: 'b' }]],
    ['has another fence', [{ key: 'h', fence: 2, nonce: 'a' }]],
  ])('sees a finished record in Redis for which Postgres %s', (_, postgres) => {
    expect(broken({ redis: [{ key: 'h', fence: 1, nonce: 'a' }], postgres })).toEqual([
      'Redis agrees with Postgres',
    ]);
  });

  describe('calls a loss what README says can be lost: Postgres away as the handler finished', () => {
    const answered = [sighting('n1000', { to: 4_500 }), sighting('n9000')];
    const judged = (more: readonly (readonly [kind: string, instance: string, from: number])[]) => {
      const faults = fault('postgres link: refuse', 'A');
      for (const [kind, instance, from] of more) faults.list.push({ kind, instance, from, to: from });
      return judge({
        redis: [],
        postgres: [],
        effects: [],
        lease: LEASE,
        executions: takenOver,
        sightings: answered,
        faults,
      });
    };

    it('and then both Redis and the process that had the outcome', () => {
      const { losses, violations } = judged([['killed', 'A', 5_500], ['redis killed', '*', 6_000]]); // prettier-ignore
      expect(violations).toEqual([]);
      expect(losses).toHaveLength(1);
    });

    it.each([
      ['its process lives on', [['redis killed', '*', 6_000]]],
      ['Redis has kept it', [['killed', 'A', 5_500]]],
      ['Postgres was back for long enough', [['killed', 'A', 8_500], ['redis killed', '*', 6_000]]], // prettier-ignore
    ] as const)('but not where %s', (_, more) => {
      const { losses, violations } = judged(more);
      expect(losses).toEqual([]);
      expect(violations.map(({ promise }) => promise)).toEqual(['every answer is the same']);
    });
  });

  it('calls a loss a claim that a crash of Postgres forgot within its last second, under `fast` alone', () => {
    const faults = fault('postgres killed', '*');
    const run = (scope: string, at: number): string[] =>
      broken({
        executions: [execution(at, { scope }), execution(9_000, { scope, instance: 'B' })],
        faults,
      });
    expect(run('fast', 3_500)).toEqual([]);
    expect(run('fast', 2_500)).toEqual(['fences rise', 'a handler runs once']);
    expect(run('retry', 3_500)).toEqual(['fences rise', 'a handler runs once']);
  });

  it('permits another execution once the record has expired, not before, and not the old answer after it', () => {
    const run = (at: number, seenAt: number): string[] =>
      broken({
        executions: [execution(1_000, { takes: 500 }), execution(at, { fence: 2 })],
        sightings: [sighting('n1000', { from: seenAt }), sighting(`n${at}`, { from: at })],
        retention: 2_000,
      });
    expect(run(3_500, 1_000)).toEqual([]);
    expect(run(3_400, 1_000)).toEqual(['a handler runs once']);
    expect(run(3_500, 3_600)).toEqual(['an expired answer does not come back']);
  });

  describe('holds of a handler in a transaction', () => {
    const scope = 'transaction';
    const begun = (at: number, more: Partial<Execution> = {}): Execution =>
      execution(at, { scope, transactional: true, ...more });
    const seen = (nonce: string | undefined, more: Partial<Sighting> = {}): Sighting =>
      sighting(nonce, { route: scope, ...more });
    const row = (nonce: string): Row => ({ scope, key: 'k', nonce });
    const record = (nonce: string): Stored => ({ key: 'h', fence: 1, nonce });
    /** Answered, with its record and its row. */
    const whole = {
      executions: [begun(1_000)],
      sightings: [seen('n1000')],
      postgres: [record('n1000')],
      effects: [row('n1000')],
    };

    it('that it leaves one row, however often it was begun before', () => {
      const executions = [begun(1_000), begun(5_000, { instance: 'B' }), begun(9_000, { instance: 'B' })];
      const sightings = [seen(undefined, { status: undefined }), seen('n9000'), seen('n9000')];
      const own = { executions, sightings, postgres: [record('n9000')], effects: [row('n9000')] };
      const faults = fault('killed', 'A');
      faults.list.push(
        ...fault('postgres killed', '*').list.map((one) => ({ ...one, from: 6_000, to: 6_500 })),
      );
      expect(broken(whole)).toEqual([]);
      expect(broken({ ...own, faults })).toEqual([]);
      expect(broken({ ...own, faults: fault('killed', 'A') })).toEqual(['a handler runs once']);
      expect(broken({ ...own, faults: fault('redis killed', '*') })).toContain('a handler runs once');
    });

    it('that no second row is there, of another execution or of its own', () => {
      const effects = [row('n1000'), row('n9000')];
      const executions = [begun(1_000), begun(9_000, { instance: 'B' })];
      const postgres = [record('n1000'), record('n9000')];
      expect(broken({ ...whole, executions, effects, postgres, faults: fault('killed', 'A') })).toEqual([
        'an effect happens once',
        'an effect is answered',
      ]);
      expect(broken({ ...whole, effects: [row('n1000'), row('n1000')] })).toEqual([
        'an execution leaves its effect once',
        'an effect happens once',
      ]);
    });

    it('that an answer has its row, and counts the one that has none', () => {
      const lost = { ...whole, effects: [] };
      expect(broken(lost)).toEqual(['a record is committed with its effect', 'an answer has its effect']);
      expect(judge({ redis: [], faults: new Faults(), lease: LEASE, ...lost }).effects).toEqual({
        ...{ keys: 1, effects: 0, doubled: 0, lost: 1 },
      });
      const none = [begun(1_000, { effect: 'none' })];
      expect(broken({ ...lost, executions: none })).toEqual([]);
    });

    it('that its row has its record', () => {
      expect(broken({ ...whole, postgres: [] })).toEqual(['an effect is committed with its record']);
    });

    it.each([
      ['failed, and was recorded', { status: 409, refused: 'n1000' }],
      ['failed, and was not', { status: 500, refused: 'n1000' }],
      ['was never answered', { status: undefined }],
    ])('that it leaves none where it %s', (_, more) => {
      const sightings = [seen(undefined, more)];
      expect(broken({ ...whole, sightings, effects: [], postgres: [] })).toEqual([]);
      expect(broken({ ...whole, sightings })).toEqual(['an effect is answered']);
    });

    it('that nothing is left of what its client was told is rolled back, where it was alone', () => {
      const told = seen(undefined, { status: 503, problem: 'store-unavailable', from: 900, to: 2_000 });
      const later = seen('n1000', { from: 3_000, to: 3_001 });
      const beside = seen(undefined, { status: undefined, from: 950, to: 1_500 });
      expect(broken({ ...whole, sightings: [told, later] })).toEqual([
        'what is told to be rolled back is not there',
      ]);
      expect(broken({ ...whole, sightings: [told, beside, later] })).toEqual([]);
      expect(broken({ ...whole, sightings: [{ ...told, problem: 'outcome-not-recorded' }, later] })).toEqual(
        [],
      );
    });

    it('that a row of no execution is found', () => {
      expect(broken({ effects: [row('invented')] })).toEqual(['an effect implies an execution']);
    });

    it.each([
      ['later', 1_000],
      ['before', 1_200],
    ])('that one under a lease which is begun %s may overtake it, and has the answer then', (_, at) => {
      const executions = [begun(at), execution(1_100, { scope, instance: 'B' })].sort((a, b) => a.at - b.at);
      const sightings = [seen('n1100'), seen('n1100')];
      const own = { executions, sightings, postgres: [record('n1100')] };
      expect(broken({ ...own, effects: [row('n1100')] })).toEqual([]);
      expect(broken({ ...own, effects: [row('n1100'), row(`n${at}`)] })).toEqual([
        ...(at > 1_100 ? ['fences rise'] : []),
        'a handler runs once',
        'an effect is committed with its record',
        'an effect happens once',
        'an effect is answered',
      ]);
    });
  });

  it('permits one under a lease a row for each execution, and its loss, but not a second one', () => {
    const rows = ['n1000', 'n9000'].map((nonce) => ({ scope: 'retry', key: 'k', nonce }));
    const own = { executions: takenOver, faults: fault('killed', 'A') };
    expect(broken({ ...own, effects: rows })).toEqual([]);
    expect(broken({ ...own, effects: [] })).toEqual([]);
    expect(broken({ ...own, effects: [...rows, rows[0]!] })).toEqual(['an execution leaves its effect once']);
  });

  describe('of a key whose record an operator has deleted', () => {
    const executions = [execution(1_000), execution(3_000, { fence: 2 })];
    const forgettings = [{ told: 'deleted', route: 'retry', key: 'k', from: 2_000, to: 2_500 }] as const;
    const before = sighting('n1000', { from: 900, to: 1_100 });
    const after = sighting('n3000', { from: 2_900, to: 3_100 });
    const again = sighting('n1000', { from: 2_600, to: 2_700 });

    it('permits that it runs again, with another answer', () => {
      expect(broken({ executions, forgettings, sightings: [before, after] })).toEqual([]);
      expect(broken({ executions, sightings: [before, after] })).not.toEqual([]);
    });

    it('permits either where the operator was not told', () => {
      const unknown = forgettings.map((one) => ({ ...one, told: 'nothing' as const }));
      expect(broken({ executions, forgettings: unknown, sightings: [before, after] })).toEqual([]);
      expect(broken({ executions, forgettings: unknown, sightings: [before, again] })).toEqual([]);
    });

    it('does not permit that the earlier answer comes back', () => {
      expect(broken({ executions, forgettings, sightings: [before, again] })).toEqual([
        'what is forgotten stays so',
      ]);
    });

    it('permits the earlier answer to a request that came before, and to those that follow it in its process', () => {
      const underWay = sighting('n1000', { from: 2_400, to: 2_650 });
      expect(broken({ executions, forgettings, sightings: [before, underWay, again] })).toEqual([]);
      const elsewhere = { ...underWay, instance: 'B' };
      expect(broken({ executions, forgettings, sightings: [before, elsewhere, again] })).not.toEqual([]);
    });

    it('counts it as lost where Redis has lost its marks', () => {
      const faults = new Faults();
      faults.list.push({ kind: 'redis emptied', instance: '*', from: 2_550, to: 2_550 });
      expect(broken({ executions, forgettings, sightings: [before, again], faults })).toEqual([]);
    });
  });
});
