import { isBare, isFloor, NODE_IDEMPOTENCY, SUBJECTS, type Subject } from './subjects';

export type Workload = 'first requests' | 'replays';

/** One kind of load, under which its subjects take turns. */
export interface Cell {
  readonly workload: Workload;
  readonly connections: number;
  /** Bytes of the request's body, which the response contains as well. */
  readonly bytes: number;
  readonly subjects: readonly Subject[];
}

export interface Plan {
  readonly rounds: number;
  readonly seconds: number;
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
const express = SUBJECTS.filter(({ platform }) => platform === 'express');
const fastify = SUBJECTS.filter(({ platform }) => platform === 'fastify');

export function planOf(extent: Extent): Plan {
  switch (extent) {
    case 'quick':
      return planned(1, 0.3, cells([1, 32], SMALL, express));
    case 'default':
      return planned(5, 1, [
        ...cells([1, 32], SMALL, express),
        ...cells([32], SMALL, named(fastify, 'bare, Fastify', 'durable, Fastify', 'redis only, Fastify')),
        ...cells(
          [32],
          LARGE,
          named(express, 'bare', 'durable', 'redis only', 'bare, Nest 10', NODE_IDEMPOTENCY),
        ),
      ]);
    case 'full':
      return planned(
        7,
        2,
        [SMALL, LARGE].flatMap((bytes) => cells([1, 8, 32, 128], bytes, SUBJECTS)),
      );
  }
}

/** Few subjects, many short rounds. */
export function comparison(subjects: readonly Subject[], rounds: number): Plan {
  return { rounds, seconds: 1, cells: cells([1, 32], SMALL, subjects), storms: [], inFlight: [] };
}

function planned(rounds: number, seconds: number, all: readonly Cell[]): Plan {
  const storms = express.filter((subject) => !isFloor(subject));
  return {
    rounds,
    seconds,
    cells: all,
    storms,
    inFlight: storms.filter((subject) => isBare(subject) || subject.mode !== 'powertools'),
  };
}

function cells(connections: readonly number[], bytes: number, subjects: readonly Subject[]): Cell[] {
  return WORKLOADS.flatMap((workload) =>
    connections.map((count) => ({ workload, connections: count, bytes, subjects })),
  );
}

function named(subjects: readonly Subject[], ...names: readonly string[]): readonly Subject[] {
  return subjects.filter(({ name }) => names.includes(name));
}
