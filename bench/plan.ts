import { isBare, isFloor, isInTransaction, NODE_IDEMPOTENCY, SUBJECTS, type Subject } from './subjects';

export type Workload = 'first requests' | 'replays';

/** What the handler does: nothing, or one row in a transaction of the application's own DataSource. */
export type Effect = 'none' | 'row';

/** One kind of load, under which its subjects take turns. */
export interface Cell {
  readonly workload: Workload;
  readonly effect: Effect;
  readonly connections: number;
  /** Bytes of the request's body, which the response contains as well. */
  readonly bytes: number;
  readonly subjects: readonly Subject[];
}

export interface Plan {
  readonly rounds: number;
  readonly seconds: number;
  /** For each kind of load, of each subject: at least so many seconds, and on until its CPU per response is level. */
  readonly warmUp: { readonly seconds: number; readonly untilLevel: boolean };
  readonly cells: readonly Cell[];
  /** Those that get 200 duplicates at once, and those that hold requests in flight. */
  readonly storms: readonly Subject[];
  readonly inFlight: readonly Subject[];
}

export type Extent = 'quick' | 'default' | 'full';

export const SMALL = 200;
export const LARGE = 65_536;
export const DUPLICATES = 200;

const WORKLOADS: readonly Workload[] = ['first requests', 'replays'];
/** A replay is the same whatever its handler writes, as no handler runs. */
const FIRST_ONLY: readonly Workload[] = ['first requests'];
const express = SUBJECTS.filter(({ platform }) => platform === 'express');

/** On 27 November 2026 `durable` took 630 µs of CPU per response in its first 5,600, and 254 after 50,000. */
const WARM = { seconds: 6, untilLevel: true };

/** With a row the products that are asked about most, and the rival that protects a Nest handler as well. */
const WITH_ROW = [
  ...['bare', 'transaction', 'durable', 'fast', 'redis only', 'bare, Nest 10', NODE_IDEMPOTENCY],
  ...['bare, Fastify', 'transaction, Fastify', 'durable, Fastify'],
];
const ON_FASTIFY = [
  ...['bare, Fastify', 'durable, Fastify', 'fast, Fastify', 'redis only, Fastify', 'floor, Fastify'],
];
const WITH_LARGE = ['bare', 'durable', 'redis only', 'bare, Nest 10', NODE_IDEMPOTENCY];

export function planOf(extent: Extent): Plan {
  switch (extent) {
    case 'quick':
      return {
        ...planned(1, 0.3, { seconds: 0.3, untilLevel: false }, [
          ...cells('none', [32], SMALL, withoutRow([...express, ...named(ON_FASTIFY)])),
          ...cells('row', [1, 32], SMALL, named(WITH_ROW), FIRST_ONLY),
        ]),
        storms: named(['bare', 'transaction', 'durable']),
        inFlight: named(['bare', 'durable']),
      };
    case 'default':
      return planned(5, 1, WARM, [
        ...cells('none', [1], SMALL, withoutRow(express)),
        ...cells('none', [32], SMALL, withoutRow([...express, ...named(ON_FASTIFY)])),
        ...cells('row', [1, 32], SMALL, named(WITH_ROW), FIRST_ONLY),
        ...cells('none', [32], LARGE, named(WITH_LARGE)),
      ]);
    case 'full':
      return planned(7, 2, WARM, [
        ...[SMALL, LARGE].flatMap((bytes) => cells('none', [1, 8, 32, 128], bytes, withoutRow(SUBJECTS))),
        ...cells('row', [1, 8, 32, 128], SMALL, SUBJECTS),
      ]);
  }
}

/** Few subjects, many short rounds. */
export function comparison(subjects: readonly Subject[], effects: readonly Effect[], rounds: number): Plan {
  const each = effects.flatMap((effect) => cells(effect, [1, 32], SMALL, subjects));
  return { rounds, seconds: 1, warmUp: WARM, cells: each, storms: [], inFlight: [] };
}

function planned(rounds: number, seconds: number, warmUp: Plan['warmUp'], all: readonly Cell[]): Plan {
  const storms = express.filter((subject) => !isFloor(subject));
  return {
    rounds,
    seconds,
    warmUp,
    cells: all,
    storms,
    // In a transaction there are no more at a time than connections.
    inFlight: withoutRow(storms).filter((subject) => isBare(subject) || subject.mode !== 'powertools'),
  };
}

function cells(
  effect: Effect,
  connections: readonly number[],
  bytes: number,
  subjects: readonly Subject[],
  workloads = WORKLOADS,
): Cell[] {
  return workloads.flatMap((workload) =>
    connections.map((count) => ({ workload, effect, connections: count, bytes, subjects })),
  );
}

/** Those that a handler without an effect says something about. */
function withoutRow(subjects: readonly Subject[]): readonly Subject[] {
  return subjects.filter((subject) => !isInTransaction(subject));
}

function named(names: readonly string[]): readonly Subject[] {
  return SUBJECTS.filter(({ name }) => names.includes(name));
}
