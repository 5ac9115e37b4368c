/** The lanes to Postgres, the first before the others. */
export const LANE = { renewals: 0, outcomes: 1, claims: 2 } as const;

const LANE_OF: Readonly<Record<string, number>> = {
  renew: LANE.renewals,
  complete: LANE.outcomes,
  release: LANE.outcomes,
};

/** Claims, reads and whatever else can be asked again later go last. */
export function laneOf(operation: string): number {
  return LANE_OF[operation] ?? LANE.claims;
}

/**
 * How many connections of the pool each lane and the later ones may hold together. Claims leave one for outcomes and
 * one for renewals; in a pool of two these share theirs. More than two for claims gain nothing at the default of four:
 * claims that meet go as one statement.
 */
export function laneLimits(poolSize: number): readonly number[] {
  return [poolSize, Math.max(poolSize - 1, 2), Math.max(poolSize - 2, 1)];
}
