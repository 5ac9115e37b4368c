import { endsProcess, type Faults } from './faults';
import type { Execution } from './ledger';
import type { Sighting } from './oracle';

/** By then an outcome that waits in memory has been brought to a Postgres that answers: it is tried every second. */
const LANDS_WITHIN = 3_000;

/**
 * README's limit: an outcome that Redis alone has, as Postgres was away when the handler finished, is lost if
 * Redis loses it, or cannot be read, and its process ends or is taken over, both before Postgres has it. Under `retry`
 * there is another execution then, with another answer; under `reject` the outcome is unknown.
 * @param unknown the client that was told so
 */
export function wasLost(
  runs: readonly Execution[],
  answers: readonly Sighting[],
  faults: Faults,
  unknown?: Sighting,
): boolean {
  if (new Set(answers.map(({ nonce }) => nonce)).size > 2) return false;
  return runs.some((owner, i) => {
    const next = runs[i + 1];
    const known = unknown?.to ?? (next?.scope === 'retry' ? next.at : undefined);
    if (known === undefined) return false;
    const answered = Math.min(...answers.filter(({ nonce }) => nonce === owner.nonce).map(({ to }) => to));
    const postgresWasAway = hits(faults, 'postgres', owner.instance, owner.at, answered);
    // A shutdown may have begun before, and leaves little time.
    const end = faults.between(owner.instance, owner.at, known).find(endsProcess);
    const redisLostIt = ['*', next?.instance ?? unknown?.instance ?? '*'].some((instance) =>
      hits(faults, 'redis', instance, answered, known),
    );
    return (
      postgresWasAway &&
      redisLostIt &&
      calm(faults, owner.instance, answered, end?.from ?? known) < LANDS_WITHIN
    );
  });
}

function hits(faults: Faults, store: string, instance: string, from: number, to: number): boolean {
  return faults.between(instance, from, to).some(({ kind }) => kind.startsWith(store));
}

/** README's limit: under `durability: 'fast'` a crash of Postgres forgets the claims of its last moments, and their fences. */
export function wasForgotten(before: Execution, next: Execution, faults: Faults, forgets: number): boolean {
  return (
    next.scope === 'fast' &&
    faults
      .between('*', before.at, before.at + forgets)
      .some(({ kind, from }) => kind === 'postgres killed' && from >= before.at && from <= next.at)
  );
}

/** For how many ms of this time the instance could reach Postgres, and was not frozen itself. */
function calm(faults: Faults, instance: string, from: number, to: number): number {
  const away = faults
    .between(instance, from, to)
    .filter(({ kind }) => kind.startsWith('postgres') || kind === 'frozen')
    .sort((a, b) => a.from - b.from);
  let calmFor = 0;
  let at = from;
  for (const fault of away) {
    calmFor += Math.max(0, fault.from - at);
    at = Math.max(at, fault.to);
  }
  return calmFor + Math.max(0, to - at);
}
