import { DUPLICATES } from './plan';
import { figuresAt, spread, type Figures, type LoadAt, type Results } from './results';
import { NODE_IDEMPOTENCY } from './subjects';

export interface Goal {
  readonly goal: string;
  readonly figure: string;
  /** The same of the least code that could do it, where there is one (floor.ts). */
  readonly floor?: string;
  readonly reached: boolean;
}

type Value = number | undefined;

/** A goal, and the figures that it is held against; one that the plan did not measure is left out. */
interface Question {
  readonly goal: string;
  readonly digits: number;
  readonly reaches: (value: number) => boolean;
  readonly value: Value;
  readonly floor?: Value;
}

/** Held against the results. */
export function goalsOf(results: Results): readonly Goal[] {
  const questions = [
    ...costGoals(results),
    ...throughputGoals(results),
    ...latencyGoals(results),
    ...transactionGoals(results),
    ...stormGoals(results),
  ];
  return questions.flatMap(({ goal, digits, reaches, value, floor }) =>
    value === undefined || Number.isNaN(value)
      ? []
      : [{ goal, figure: value.toFixed(digits), floor: floor?.toFixed(digits), reached: reaches(value) }],
  );
}

const FIRST: LoadAt = { workload: 'first requests', effect: 'none', connections: 32 };
const FIRST_AT_32 = 'First requests, 32 connections';

const atMost =
  (most: number) =>
  (value: number): boolean =>
    value <= most;
const atLeast =
  (least: number) =>
  (value: number): boolean =>
    value >= least;

/** Memory and processor's time that a first request adds. */
function costGoals(results: Results): Question[] {
  const own = (name: string): Value => micros(figuresAt(results, FIRST, name));
  const allocated = (name: string): Value => {
    const bytes = figuresAt(results, FIRST, name)?.used('allocated').median;
    return bytes === undefined ? undefined : bytes / 1_000;
  };
  const theirs = own(NODE_IDEMPOTENCY);
  return [
    {
      goal: `${FIRST_AT_32}, \`durable\`, Fastify: at most 45 kB allocated`,
      digits: 1,
      reaches: atMost(45),
      value: allocated('durable, Fastify'),
      floor: allocated('floor, Fastify'),
    },
    {
      goal: `${FIRST_AT_32}, \`durable\`, Fastify: at most 110 µs of own CPU added`,
      digits: 0,
      reaches: atMost(110),
      value: own('durable, Fastify'),
      floor: own('floor, Fastify'),
    },
    {
      goal: `${FIRST_AT_32}, \`durable\`, Express: at most 150 µs of own CPU added`,
      digits: 0,
      reaches: atMost(150),
      value: own('durable'),
      floor: own('floor'),
    },
    {
      goal: `${FIRST_AT_32}, \`durable\`, Express: own CPU added below that of \`${NODE_IDEMPOTENCY}\` (as a ratio)`,
      digits: 2,
      reaches: (value) => value < 1,
      value: ratio(own('durable'), theirs),
      floor: ratio(own('floor'), theirs),
    },
  ];
}

function throughputGoals(results: Results): Question[] {
  const share = (load: LoadAt, name: string): Value => figuresAt(results, load, name)?.ratio.median;
  const perSecond = (name: string): Value => figuresAt(results, FIRST, name)?.perSecond.median;
  const what = `${FIRST_AT_32}, \`durable\``;
  const rival = share(FIRST, NODE_IDEMPOTENCY);
  const absolute = perSecond(NODE_IDEMPOTENCY);
  return [
    {
      goal: `${what}: at least 0.60 of bare`,
      digits: 2,
      reaches: atLeast(0.6),
      value: share(FIRST, 'durable'),
      floor: share(FIRST, 'floor'),
    },
    {
      goal: `${what}: share of bare at least that of \`${NODE_IDEMPOTENCY}\` (as a ratio)`,
      digits: 2,
      reaches: atLeast(1),
      value: ratio(share(FIRST, 'durable'), rival),
      floor: ratio(share(FIRST, 'floor'), rival),
    },
    {
      goal: `${what}: requests/s at least those of \`${NODE_IDEMPOTENCY}\` (as a ratio)`,
      digits: 2,
      reaches: atLeast(1),
      value: ratio(perSecond('durable'), absolute),
      floor: ratio(perSecond('floor'), absolute),
    },
    ...[1, 32].map((connections): Question => {
      const replays: LoadAt = { workload: 'replays', effect: 'none', connections };
      return {
        goal: `Replays, ${connections} connection${connections > 1 ? 's' : ''}, \`durable\`: at least 0.90 of bare`,
        digits: 2,
        reaches: atLeast(0.9),
        value: share(replays, 'durable'),
        floor: share(replays, 'floor'),
      };
    }),
  ];
}

/** What each adds to the median latency at most, of what the rival adds. */
const ADDED: readonly (readonly [
  workload: LoadAt['workload'],
  subject: string,
  most: number,
  floor: string,
])[] = [
  ['replays', 'durable', 0.5, 'floor'],
  ['first requests', 'fast', 1.25, 'floor, fast'],
  ['first requests', 'durable', 2, 'floor'],
  ['first requests', 'redis down', 2, 'floor, redis down'],
];

function latencyGoals(results: Results): Question[] {
  return ADDED.map(([workload, subject, most, least]) => {
    const load: LoadAt = { workload, effect: 'none', connections: 1 };
    const added = (name: string): Value => figuresAt(results, load, name)?.added('p50').median;
    const what = `Added median latency, 1 connection, ${workload}, \`${subject}\``;
    return {
      goal: `${what}: at most ${most.toFixed(2)} of what \`${NODE_IDEMPOTENCY}\` adds`,
      digits: 2,
      reaches: atMost(most),
      value: ratio(added(subject), added(NODE_IDEMPOTENCY)),
      floor: ratio(added(least), added(NODE_IDEMPOTENCY)),
    };
  });
}

/** What the mode is held against whose record shares the handler's transaction, beside the same handler. */
function transactionGoals(results: Results): Question[] {
  const at = (connections: number, name: string): Figures | undefined =>
    figuresAt(results, { workload: 'first requests', effect: 'row', connections }, name);
  const alone = (name: string): Value => at(1, name)?.added('p50').median;
  const share = (name: string): Value => at(32, name)?.ratio.median;
  const handler = 'handler that writes a row, `transaction`';
  return [
    ...(
      [
        [NODE_IDEMPOTENCY, 0.6],
        ['durable', 0.35],
      ] as const
    ).map(([other, most]): Question => ({
      goal: `Added median latency, 1 connection, ${handler}: at most ${most.toFixed(2)} of what \`${other}\` adds`,
      digits: 2,
      reaches: atMost(most),
      value: ratio(alone('transaction'), alone(other)),
    })),
    {
      goal: `First requests, 32 connections, ${handler}: share of bare at least that of \`${NODE_IDEMPOTENCY}\` (as a ratio)`,
      digits: 2,
      reaches: atLeast(1),
      value: ratio(share('transaction'), share(NODE_IDEMPOTENCY)),
    },
    ...[1, 32].flatMap((connections) =>
      (
        [
          ['postgresCpu', 'CPU of Postgres'],
          ['walBytes', 'WAL'],
        ] as const
      ).map(([what, name]): Question => {
        const added = (subject: string): Value => at(connections, subject)?.addedUse(what).median;
        return {
          goal: `${name} added, ${connections} connection${connections > 1 ? 's' : ''}, ${handler}: at most 0.50 of what \`durable\` adds`,
          digits: 2,
          reaches: atMost(0.5),
          value: ratio(added('transaction'), added('durable')),
        };
      }),
    ),
    {
      goal: `Commits per first request, 1 connection, ${handler}: none beyond bare's, so no flush either`,
      digits: 2,
      // Some requests are under way when a turn ends.
      reaches: atMost(0.02),
      value: at(1, 'transaction')?.addedUse('commits').median,
    },
  ];
}

function stormGoals({ storms }: Results): Question[] {
  return storms.flatMap(({ wait, turns }) => {
    const own = turns.durable ?? [];
    if (wait === 0 || own.length === 0) return [];
    const storm = `${DUPLICATES} duplicates at once of a handler of ${wait} ms, \`durable\``;
    return [
      {
        goal: `${storm}: one execution`,
        digits: 0,
        reaches: (value: number) => value === 1,
        value: Math.max(...own.map(({ executions }) => executions)),
      },
      {
        goal: `${storm}: last answer within 2 times one request`,
        digits: 2,
        reaches: atMost(2),
        value: spread(own.map(({ ms, single }) => ms / single)).median,
      },
    ];
  });
}

function micros(figures: Figures | undefined): Value {
  const added = figures?.addedUse('subjectCpu').median;
  return added === undefined ? undefined : added * 1_000;
}

function ratio(own: Value, other: Value): Value {
  return own === undefined || other === undefined ? undefined : own / other;
}
