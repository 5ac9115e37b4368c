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

/** Upkeep that no request waits for, and that may take long, goes one at a time, beside the lanes, on a connection more. */
const UPKEEP = new Set(['cleanup', 'orphans', 'look']);

export function isUpkeep(operation: string): boolean {
  return UPKEEP.has(operation);
}
