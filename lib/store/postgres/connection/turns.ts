/** The lanes to Postgres, the first before the others. */
export const LANE = { renewals: 0, outcomes: 1, claims: 2, reads: 3 } as const;

const LANE_OF: Readonly<Record<string, number>> = {
  renew: LANE.renewals,
  complete: LANE.outcomes,
  release: LANE.outcomes,
  claim: LANE.claims,
};

/** Reads and all else that can be asked again later go last: a process may wait for many keys of another one. */
export function laneOf(operation: string): number {
  return LANE_OF[operation] ?? LANE.reads;
}

/**
 * How many connections of the pool each lane and the later ones may hold together. Claims leave one for outcomes and
 * one for renewals; in a pool of two these share theirs. More than two for claims gain nothing at the default of four:
 * claims that meet go as one statement. Reads hold no more than that, and give way to claims.
 */
export function laneLimits(poolSize: number): readonly number[] {
  const claims = Math.max(poolSize - 2, 1);
  return [poolSize, Math.max(poolSize - 1, 2), claims, claims];
}

/**
 * What no request waits for, and what may take long, goes beside the lanes: the upkeep of the module, and the looks of
 * operators, one at a time each. A look through a large table thus delays neither the count of orphans nor the cleanup.
 */
const BESIDE: Readonly<Record<string, Turn>> = {
  orphans: { queue: 'upkeep', lane: 0 },
  cleanup: { queue: 'upkeep', lane: 1 },
  look: { queue: 'looks', lane: 0 },
};

/** How many connections each queue may hold; of a queue, each lane and the later ones together. */
export const QUEUE_LIMITS = {
  requests: laneLimits,
  upkeep: (): readonly number[] => [1, 1],
  looks: (): readonly number[] => [1],
} as const;

export type Queue = keyof typeof QUEUE_LIMITS;

/** Where an operation waits for a connection. */
export interface Turn {
  readonly queue: Queue;
  readonly lane: number;
}

export function turnOf(operation: string): Turn {
  return BESIDE[operation] ?? { queue: 'requests', lane: laneOf(operation) };
}

/** Connections that the pool of `poolSize` needs in all. */
export function connectionsOf(poolSize: number): number {
  return Object.values(QUEUE_LIMITS).reduce((sum, limits) => sum + (limits(poolSize)[0] ?? 0), 0);
}
