/** One key, seen from everywhere: both stores, what is under way to them, and the memory of each process. */
export interface State {
  /** The key's row in Postgres. */
  row: Row | null;
  /** The key's value in Redis, and the one that a lagging replica has. */
  redis: Copy | null;
  replica: Copy | null;
  /** Redis writes that lie in a socket, and statements that Postgres may still run: their senders wait no more. */
  wire: Copy[];
  late: Statement[];
  /** Transactions that are open in Postgres (transaction mode). */
  sessions: Session[];
  processes: Process[];
  /** Who deletes the key's record by hand; null while no operator does. */
  operator: Operator | null;
  /** The mark in Postgres: outcomes of claims up to this fence are refused where there is no row. 0 without one. */
  forgottenUpTo: number;
  arrived: number;
  /** The last fence drawn from Postgres' sequence, and the last token (of claims that won, or may land late). */
  sequence: number;
  tokens: number;

  /** For the properties: executions (tokens) that forbid another one, and those that may have left effects. */
  standing: number[];
  effects: number[];
  /** The outcome (named by the token of its execution) that a client has seen; 0 if none has. */
  seen: number;
  lastFence: number;
  /** Of transactions, by token: whose effects are committed, and whose requests were told that nothing was executed. */
  committed: number[];
  denied: number[];
  /** Executions, by token, whose record an operator has deleted. */
  forgotten: number[];
  /** The operator knows that. */
  told: boolean;

  /** How often each fault may still occur. */
  left: Budget;
}

export interface Budget {
  /** Postgres operations that fail: not sent, or their reply lost. */
  postgres: number;
  /** Of these, how many take effect later. */
  lateSql: number;
  /** Redis writes that are delivered late, in any order. (Redis may fail to answer, or lose a write, at any time.) */
  lateRedis: number;
  /** Redis forgets the key: restart, eviction, end of its TTL. */
  wipes: number;
  /** Redis fails over to a replica that lags. */
  failovers: number;
  crashes: number;
  /** Leases that end although their owner lives: it is frozen, or cannot reach Postgres. */
  lapses: number;
  /** Records whose retention ends. */
  expiries: number;
  /** Handlers that fail, so that their key is given back. */
  failures: number;
  /** Records that an operator deletes. */
  forgets: number;
}

export interface Row {
  token: number;
  fence: number;
  attempt: number;
  fingerprint: number;
  /** The execution whose outcome is recorded; 0 while in progress. */
  outcome: number;
  lapsed: boolean;
  expired: boolean;
}

/** As in lib/store/redis/codec.ts. */
export const RANK = { hint: 0, pending: 1, completed: 2, removed: 3 } as const;

export interface Copy {
  rank: number;
  fence: number;
  token: number;
  fingerprint: number;
  /** Named by the execution that it is of; 0 for a hint and for the mark that a claim is no more. */
  outcome: number;
}

/** One operation on Postgres; `fence` 0 where the claim's reply was lost. */
export interface Statement {
  verb: 'claim' | 'complete' | 'release' | 'renew';
  token: number;
  fence: number;
  fingerprint: number;
  attempt: number;
  takeOver: boolean;
  outcome: number;
}

/** A transaction of the transaction mode, as Postgres has it. It holds the lock of the key from its begin to its end. */
export interface Session {
  token: number;
  fence: number;
  fingerprint: number;
  attempt: number;
  /** The handler has written. */
  effect: boolean;
  /** It completes a claim of the leased mode, instead of inserting a record. */
  claims: boolean;
  /** Nothing comes from its client any more: Postgres ends it, or, with `commits`, has its last statements still to run. */
  cut: boolean;
  commits: boolean;
}

/** A process: its requests, and what waits in its memory for Postgres (lib/store/pending-writes.ts). */
export interface Process {
  requests: Request[];
  outcome: Statement | null;
  releases: Statement[];
}

/** An operator between two steps of TieredStoreService.forget, with the record that it has seen. */
export interface Operator {
  readonly at: 'mark' | 'delete';
  readonly token: number;
  readonly fence: number;
  readonly fingerprint: number;
}

/** Where a request is; the comments name the code that runs there. */
export type Place =
  | 'recall' // TieredStoreService.claim: Redis is asked
  | 'ask' // TieredStoreService.claim: Postgres is asked, after an outcome that waits in memory was brought there
  | 'look up' // TieredStoreService.claim: Postgres knows the key, and Redis was not asked before: it may have its outcome
  | 'fall back' // TieredStoreService.claim, catch: Postgres is away, and Redis may have answered by now
  | 'look aside' // TieredStoreService.adoptPendingOutcome: an orphan was taken over; Redis may have its outcome
  | 'adopt' // TieredStoreService.adoptPendingOutcome: that outcome is recorded under the new claim
  | 'claimed' // Protocol.claimOrRead: the claim is committed, its reply on the way
  | 'give up' // Executions: the lease lapsed before the handler began, also while the earlier system was asked
  | 'running' // ClaimedExecutions.run
  | 'unprotected' // executeUnprotected
  | 'complete' // TieredStoreService.complete
  | 'vouch' // TieredStoreService.complete, catch: Redis is to vouch for the outcome
  | 'release' // TieredStoreService.release
  | 'waiting' // Poll
  | 'insert' // a mutant alone: the effects are committed, their outcome is not
  | 'commit' // Transaction.complete
  | 'resolve' // Transaction.resolve: it is not known whether the commit took place
  | 'locked' // Poll: another transaction has the key's lock
  | 'outlived' // ClaimedExecutions.completeClaim: the lease was lost, and the winner's outcome is waited for
  | 'joined'; // Protocol.follow: waits for the request of its process that leads

export interface Request {
  /** For traces only. */
  id: number;
  fingerprint: number;
  at: Place;
  /** Whether other requests of this process follow it (lib/core/in-flight-requests.ts). */
  leads: boolean;
  /** It came, and so did what it follows, after an operator was told that the record is deleted. */
  late: boolean;
  fresh: boolean;
  /** Its route is in the transaction mode. */
  transaction: boolean;
  /** Of a mutant alone: it found no record before it had the lock. */
  sawNothing: boolean;
  /** Whether Redis was asked for the key, with or without an answer, since the request began to ask for it. */
  asked: boolean;
  /** What its claim has found, while Redis is asked as well. */
  standing: Readonly<Row> | null;
  token: number;
  fence: number;
  attempt: number;
  /** The outcome of another execution that it adopts. */
  outcome: number;
  /** Its own clock says that its lease may have lapsed (Lease.lapsed). */
  lapsed: boolean;
  /** Of mutants only: it read an orphan, and goes on to take it over. */
  sawOrphan: boolean;
}

/** Places in which a request holds a lease: its heartbeat runs. */
export const HOLDING: ReadonlySet<Place> = new Set([
  'look aside',
  'adopt',
  'claimed',
  'running',
  'complete',
  'vouch',
  'release',
]);

export function initial(processes: number, faults: Budget): State {
  return {
    row: null,
    redis: null,
    replica: null,
    wire: [],
    late: [],
    sessions: [],
    processes: Array.from({ length: processes }, () => ({ requests: [], outcome: null, releases: [] })),
    operator: null,
    forgottenUpTo: 0,
    arrived: 0,
    sequence: 0,
    tokens: 0,
    standing: [],
    effects: [],
    seen: 0,
    lastFence: 0,
    committed: [],
    denied: [],
    forgotten: [],
    told: false,
    left: faults,
  };
}

/** Copies, statements and budgets are never changed, only replaced. */
export function clone(s: State): State {
  return {
    ...s,
    row: s.row && { ...s.row },
    wire: [...s.wire],
    late: [...s.late],
    sessions: s.sessions.map((session) => ({ ...session })),
    processes: s.processes.map(({ requests, outcome, releases }) => ({
      requests: requests.map((request) => ({ ...request })),
      outcome,
      releases: [...releases],
    })),
    standing: [...s.standing],
    effects: [...s.effects],
    committed: [...s.committed],
    denied: [...s.denied],
    forgotten: [...s.forgotten],
  };
}

/** The same for states that differ only in the order of processes, requests or writes under way: they behave alike. */
export function key(s: State): string {
  const processes = s.processes.map(({ requests, outcome, releases }) =>
    [
      unordered(requests.map(requestKey)),
      outcome ? statementKey(outcome) : '',
      unordered(releases.map(statementKey)),
    ].join('/'),
  );
  return [
    s.row ? rowKey(s.row) : '',
    copyKey(s.redis),
    copyKey(s.replica),
    unordered(s.wire.map(copyKey)),
    unordered(s.late.map(statementKey)),
    unordered(s.sessions.map(sessionKey)),
    unordered(processes),
    [s.arrived, s.sequence, s.tokens, s.seen, s.lastFence, s.forgottenUpTo, s.told].join(),
    s.forgotten.join(),
    s.operator ? `${s.operator.at},${s.operator.token},${s.operator.fence},${s.operator.fingerprint}` : '',
    s.standing.join(),
    s.effects.join(),
    s.committed.join(),
    s.denied.join(),
    budgetKey(s.left),
  ].join('|');
}

const unordered = (parts: string[]): string => (parts.length > 1 ? parts.sort().join(';') : (parts[0] ?? ''));
const rowKey = (it: Row): string =>
  `${it.token},${it.fence},${it.attempt},${it.fingerprint},${it.outcome},${it.lapsed},${it.expired}`;
const budgetKey = (it: Budget): string =>
  `${it.postgres},${it.lateSql},${it.lateRedis},${it.wipes},${it.failovers},${it.crashes},${it.lapses},${it.expiries},${it.failures},${it.forgets}`;
const copyKey = (copy: Copy | null): string =>
  copy ? `${copy.rank},${copy.fence},${copy.token},${copy.fingerprint},${copy.outcome}` : '';
const sessionKey = (it: Session): string =>
  `${it.token},${it.fence},${it.fingerprint},${it.attempt},${it.effect},${it.claims},${it.cut},${it.commits}`;
const statementKey = (it: Statement): string =>
  `${it.verb},${it.token},${it.fence},${it.fingerprint},${it.takeOver},${it.attempt},${it.outcome}`;
const requestKey = (it: Request): string =>
  `${it.at},${it.fingerprint},${it.leads},${it.late},${it.fresh},${it.asked},${it.standing ? rowKey(it.standing) : ''},${it.transaction},${it.sawNothing},${it.token},${it.fence},${it.attempt},${it.outcome},${it.lapsed},${it.sawOrphan}`;
