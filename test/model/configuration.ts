import type { Budget } from './state';

/** What a broken protocol does otherwise. */
export const MUTANTS = {
  'naive fallback': 'Redis knows nothing of the key, so the handler runs; Postgres is asked only where Redis fails',
  'unfenced completion': 'a completion names the key alone, not its claim',
  'Redis write without rank': 'the last write to Redis stays, whatever its fence and state',
  'own token refused': 'a claim that is sent again is refused by the row that it made itself',
  'lease by application clock': 'the claimant judges by its own clock whether a lease has lapsed',
  'answer before recording': 'the response is sent, then recorded',
  'abandon deletes the orphan': 'a takeover whose reply was lost is given back by deleting the row',
  'takeover without compare-and-set': 'a takeover changes the row whatever has become of it since it was read',
  'takeover without a look at Redis': 'an orphan is taken over without asking Redis for its outcome',
  'handler started after its lease': 'a claim whose lease has lapsed before its reply came runs its handler',
  'pending outcome replayed unconfirmed': 'a pending outcome in Redis is replayed although Postgres could be asked',
  'pending outcome written after its lease': 'a pending outcome may reach Redis when its lease has lapsed',
  'older outcome kept': 'of two outcomes of one key that wait in memory the first stays',
} as const;

export type Mutant = keyof typeof MUTANTS;

export interface Configuration {
  readonly name: string;
  readonly processes: number;
  readonly requests: number;
  readonly fingerprints: number;
  /** Claims that win; paths with more are cut off. */
  readonly claims: number;
  readonly onOrphan: 'retry' | 'reject';
  readonly inFlight: 'wait' | 'reject';
  readonly redis: boolean;
  /**
   * The assumption under which a pending outcome is as good as a recorded one: until Postgres has it, Redis keeps it
   * and gives it to whoever is about to take its key over.
   */
  readonly keepsVouched: boolean;
  readonly faults: Budget;
  readonly mutant?: Mutant;
}

export const NO_FAULTS: Budget = {
  postgres: 0,
  lateSql: 0,
  lateRedis: 0,
  wipes: 0,
  failovers: 0,
  crashes: 0,
  lapses: 0,
  expiries: 0,
  failures: 0,
};

export function configuration(
  name: string,
  faults: Partial<Budget>,
  more: Partial<Omit<Configuration, 'name' | 'faults'>> = {},
): Configuration {
  return {
    name,
    processes: 2,
    requests: 3,
    fingerprints: 1,
    claims: 3,
    onOrphan: 'retry',
    inFlight: 'wait',
    redis: true,
    keepsVouched: true,
    ...more,
    faults: { ...NO_FAULTS, ...faults },
  };
}
