/** Replays among replays and first requests, from 0 to 1; undefined if there was neither. */
export function hitRateOf(replays: number, firstRequests: number): number | undefined {
  const all = replays + firstRequests;
  return all > 0 ? replays / all : undefined;
}
