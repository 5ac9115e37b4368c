import type { Property } from './properties';
import type { Budget } from './state';

/** What a broken protocol does otherwise. */
export const MUTANTS = {
  'naive fallback':
    'Redis knows nothing of the key, so the handler runs; Postgres is asked only where Redis fails',
  'unfenced completion': 'a completion names the key alone, not its claim',
  'Redis write without rank': 'the last write to Redis stays, whatever its fence and state',
  'own token refused': 'a claim that is sent again is refused by the row that it made itself',
  'lease by application clock': 'the claimant judges by its own clock whether a lease has lapsed',
  'answer before recording': 'the response is sent, then recorded',
  'abandon deletes the orphan': 'a takeover whose reply was lost is given back by deleting the row',
  'takeover without compare-and-set':
    'a takeover changes the row whatever has become of it since it was read',
  'takeover without a look at Redis': 'an orphan is taken over without asking Redis for its outcome',
  'refused without a look at Redis':
    'a claim that was sent without asking Redis first is refused by the row that it finds',
  'look at Redis before the takeover':
    'Redis is asked for the outcome of an orphan before, not after, it is taken over',
  'hint of a takeover refilled':
    'whoever reads the row of a takeover writes its hint to Redis, where it buries an outcome',
  'handler started after its lease': 'a claim whose lease has lapsed before its reply came runs its handler',
  'pending outcome replayed unconfirmed':
    'a pending outcome in Redis is replayed although Postgres could be asked',
  'pending outcome written after its lease': 'a pending outcome may reach Redis when its lease has lapsed',
  'claim without a lease': 'the claim of a crashed owner stands for ever',
  'joins equal requests only':
    'a request of another fingerprint, or one that does not wait, asks the store beside the one that runs',
  'unprotected beside an outcome':
    'a handler runs unprotected although its outcome waits in the memory of its process',
  'unprotected beside a wait':
    'a handler runs unprotected although its process waits for the owner of the key',
  'older outcome kept': 'of two outcomes of one key that wait in memory the first stays',
  'effects outside of the transaction': 'the handler writes over another connection than its transaction',
  'COMMIT before INSERT': 'the effects are committed before their outcome is written',
  '23505 taken for success':
    'lock and read are one statement, whose snapshot is older than the lock, and a record that stands is taken for its own',
  'forgotten outcome adopted':
    'an outcome that Redis has becomes that of a takeover, although an operator has deleted its record',
  'forgotten without a mark in Redis': 'the copy in Redis is deleted, and no mark keeps a late one out',
  'forgotten without a mark in Postgres':
    'the row is deleted, and no mark keeps out an outcome that waits in a process',
  'ambiguity resolved without the lock':
    'whether a commit took place is looked for while its transaction may still run',
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
  readonly onOutage: 'reject' | 'execute';
  readonly redis: boolean;
  /** Requests come in both modes: each may be to a route in the transaction mode, or to one with leases. */
  readonly transactions: boolean;
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
  forgets: 0,
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
    onOutage: 'reject',
    redis: true,
    transactions: false,
    keepsVouched: true,
    ...more,
    faults: { ...NO_FAULTS, ...faults },
  };
}

const small = { requests: 2, claims: 2 } as const;
const mixed = { requests: 2, claims: 3, transactions: true } as const;
const medium = { requests: 2, claims: 3 } as const;

/** The protocol as it is, under each family of faults: nothing may be found. */
export const PROOFS: readonly Configuration[] = [
  configuration('a process crashes', { postgres: 1, crashes: 1, lapses: 1 }),
  configuration('Postgres fails, a process freezes', { postgres: 2, lapses: 2 }, medium),
  configuration('Postgres runs statements late', { postgres: 2, lateSql: 1, lapses: 1 }, medium),
  configuration('Redis writes come late', { postgres: 1, lateRedis: 2, lapses: 1 }, medium),
  configuration('Redis forgets', { postgres: 2, wipes: 1, crashes: 1, lapses: 1 }, medium),
  configuration('Redis fails over', { postgres: 1, failovers: 1, crashes: 1, lapses: 1 }, medium),
  configuration('handlers fail', { postgres: 1, failures: 1, crashes: 1, lapses: 1 }, medium),
  configuration('records expire', { postgres: 1, expiries: 1, lapses: 1 }, { claims: 3 }),
  configuration('two requests share a key', { postgres: 1, crashes: 1 }, { fingerprints: 2 }),
  configuration(
    'onOutage execute',
    { postgres: 2, crashes: 1, lapses: 1 },
    { onOutage: 'execute', fingerprints: 2, claims: 2 },
  ),
  configuration(
    'onOutage execute, inFlight reject',
    { postgres: 2, crashes: 1, lapses: 1 },
    { onOutage: 'execute', inFlight: 'reject', claims: 2 },
  ),
  configuration('without Redis', { postgres: 2, crashes: 1, lapses: 1 }, { redis: false }),
  configuration('inFlight reject', { postgres: 1, crashes: 1, lapses: 1 }, { inFlight: 'reject' }),
  configuration(
    'onOrphan reject',
    { postgres: 2, lateSql: 1, lateRedis: 1, crashes: 1, lapses: 1, failures: 1 },
    { ...medium, onOrphan: 'reject' },
  ),
  configuration('an operator forgets', { lateRedis: 1, lapses: 1, forgets: 1 }, medium),
  configuration(
    'an operator forgets, a process crashes',
    { postgres: 2, lateSql: 1, crashes: 1, forgets: 1 },
    medium,
  ),
  configuration(
    'an operator forgets, onOrphan reject',
    { postgres: 1, lapses: 1, crashes: 1, forgets: 1 },
    { ...medium, onOrphan: 'reject' },
  ),
  configuration(
    'an operator forgets, Redis fails over',
    { failovers: 1, crashes: 1, forgets: 1 },
    { requests: 3, claims: 3 },
  ),
  configuration('transactions: an operator forgets', { postgres: 1, forgets: 1 }, mixed),
  configuration('transactions: a process crashes', { postgres: 1, crashes: 1, lapses: 1 }, mixed),
  configuration('transactions: Postgres fails', { postgres: 2, lateSql: 1 }, mixed),
  configuration(
    'transactions: handlers fail',
    { postgres: 1, failures: 1, crashes: 1 },
    { ...mixed, fingerprints: 2 },
  ),
  configuration(
    'transactions: Redis is bad, records expire',
    { postgres: 1, lateRedis: 1, wipes: 1, expiries: 1 },
    mixed,
  ),
];

/** For `--deep`: more processes, requests and faults at once. */
export const DEEP: readonly Configuration[] = [
  configuration(
    'deep: three processes',
    { postgres: 1, crashes: 1, lapses: 1 },
    { processes: 3, requests: 4 },
  ),
  configuration('deep: an outage', { postgres: 3, crashes: 1, lapses: 2 }),
  configuration('deep: everything late', { postgres: 2, lateSql: 1, lateRedis: 1, lapses: 1 }),
  configuration('deep: a bad Redis', {
    postgres: 1,
    lateRedis: 1,
    wipes: 1,
    failovers: 1,
    crashes: 1,
    lapses: 1,
  }),
  configuration(
    'deep: onOrphan reject',
    { postgres: 2, lateSql: 1, wipes: 1, crashes: 1, lapses: 2, failures: 1 },
    { onOrphan: 'reject' },
  ),
  configuration(
    'deep: transactions',
    { postgres: 2, lateSql: 1, crashes: 1, lapses: 1, failures: 1 },
    { ...mixed, requests: 3 },
  ),
  configuration(
    'deep: an operator forgets',
    { postgres: 1, lateRedis: 1, lapses: 1, forgets: 1 },
    { ...medium, requests: 3 },
  ),
  configuration('deep: expiry', { postgres: 2, expiries: 2, crashes: 1, lapses: 1, failures: 1 }),
];

/** The assumption that a pending outcome stays to be read in Redis is given up: what the README does not promise. */
export const LIMIT = {
  configuration: configuration(
    'Redis loses a pending outcome',
    { postgres: 1, lapses: 0 },
    { ...small, keepsVouched: false },
  ),
  property: 'no execution after an answer',
} as const;

interface Control {
  readonly faults: Partial<Budget>;
  readonly property: Property;
  readonly more?: Partial<Configuration>;
  /** It shows after so many states that `npm run test:model` alone looks for it, and no test of each change. */
  readonly late?: true;
}

/** For each mutant the faults under which it shows, and the property that it breaks. */
export const CONTROLS: Readonly<Record<Mutant, Control>> = {
  'naive fallback': { faults: {}, property: 'one execution' },
  'unfenced completion': { faults: { lapses: 1 }, property: 'one answer' },
  'Redis write without rank': {
    faults: { postgres: 1, lateRedis: 1 },
    property: 'no execution after an answer',
  },
  'own token refused': { faults: { postgres: 1 }, property: 'not refused by its own claim' },
  'lease by application clock': { faults: {}, property: 'one execution' },
  'answer before recording': { faults: { crashes: 1 }, property: 'no execution after an answer' },
  'abandon deletes the orphan': {
    faults: { postgres: 1, crashes: 1 },
    property: 'attempts are told',
    more: { requests: 3, claims: 3 },
  },
  'takeover without compare-and-set': {
    faults: { crashes: 1 },
    property: 'one execution',
    more: { requests: 3, claims: 3 },
  },
  'takeover without a look at Redis': { faults: { postgres: 1 }, property: 'no execution after an answer' },
  'refused without a look at Redis': {
    faults: { postgres: 1 },
    property: 'no outcome is overlooked',
    more: { inFlight: 'reject' },
  },
  'look at Redis before the takeover': {
    faults: { postgres: 1, lapses: 1 },
    property: 'no execution after an answer',
  },
  'hint of a takeover refilled': {
    faults: { postgres: 1 },
    property: 'no execution after an answer',
    more: { requests: 3 },
  },
  'handler started after its lease': { faults: { lapses: 1 }, property: 'one execution' },
  'pending outcome replayed unconfirmed': {
    faults: { postgres: 1 },
    property: 'one answer',
    more: { requests: 3, keepsVouched: false },
  },
  'pending outcome written after its lease': {
    faults: { postgres: 2, lateRedis: 1 },
    property: 'no execution after an answer',
    more: { requests: 3 },
    late: true,
  },
  'claim without a lease': { faults: { crashes: 1 }, property: 'no key is stuck' },
  'joins equal requests only': {
    faults: { postgres: 1 },
    property: 'unprotected alone',
    more: { onOutage: 'execute', fingerprints: 2 },
  },
  'unprotected beside an outcome': {
    faults: { postgres: 2 },
    property: 'unprotected alone',
    more: { onOutage: 'execute' },
  },
  'unprotected beside a wait': {
    faults: { postgres: 1 },
    property: 'unprotected alone',
    more: { onOutage: 'execute', inFlight: 'wait', fingerprints: 2, requests: 3 },
  },
  'older outcome kept': {
    faults: { postgres: 2, lapses: 2 },
    property: 'no outcome is forgotten',
    more: { requests: 3 },
    late: true,
  },
  'effects outside of the transaction': {
    faults: { crashes: 1 },
    property: 'effect and outcome together',
    more: mixed,
  },
  'COMMIT before INSERT': { faults: {}, property: 'effect and outcome together', more: mixed },
  '23505 taken for success': { faults: {}, property: 'answers are committed', more: mixed },
  'forgotten outcome adopted': {
    faults: { failovers: 1, crashes: 1, forgets: 1 },
    property: 'what is forgotten is not recorded again',
    more: { requests: 3, claims: 3 },
  },
  'forgotten without a mark in Redis': {
    faults: { lateRedis: 1, forgets: 1 },
    property: 'what is forgotten stays so',
    more: { requests: 3 },
  },
  'forgotten without a mark in Postgres': {
    faults: { postgres: 1, forgets: 1 },
    property: 'what is forgotten stays so',
  },
  'ambiguity resolved without the lock': {
    faults: { postgres: 1, lateSql: 1 },
    property: 'denials are true',
    more: mixed,
  },
};

export function controlOf(mutant: Mutant): Configuration {
  const { faults, more } = CONTROLS[mutant];
  return configuration(mutant, faults, { ...small, ...more, mutant });
}
