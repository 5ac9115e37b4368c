import type { Configuration } from './configuration';
import { expect, takeBroken, type Property } from './properties';
import { TransactionSteps } from './transaction';
import {
  clone,
  HOLDING,
  RANK,
  type Budget,
  type Copy,
  type Place,
  type Process,
  type Request,
  type Row,
  type State,
  type Statement,
} from './state';
import { execute, forget, put, vouches, wins, type Reply } from './stores';

export interface Step {
  readonly label: string;
  /** Something goes wrong that need not: the way out of a stuck key must do without. */
  readonly fault: boolean;
  readonly next: State;
  readonly broken: readonly Property[];
}

/** Adds a step of a request (of process p, number r), or of the environment. */
export type Add = (
  label: string,
  fault: boolean,
  change: (draft: Draft) => void,
  p?: number,
  r?: number,
) => void;

export interface Steps {
  readonly list: readonly Step[];
  /** A claim was left out, as all those that the configuration allows have been made. */
  readonly cut: boolean;
}

/** Everything that can happen next. */
export function stepsFrom(s: State, c: Configuration): Steps {
  const steps = new Stepper(s, c);
  steps.environment();
  s.processes.forEach((process, p) => {
    steps.background(p);
    process.requests.forEach((_, r) => steps.request(p, r));
  });
  return steps;
}

/** What becomes of a request: an outcome, a refusal that its followers share, or one after which they try themselves. */
type Ending = Outcome | 'refused' | 'try again';

type Outcome = Pick<Copy, 'outcome' | 'fingerprint'>;
type Claim = Pick<Copy, 'token' | 'fence' | 'fingerprint'>;

/** The draft of one step: a state to change, and the Redis writes that the change sends. */
export class Draft {
  readonly writes: Copy[] = [];

  constructor(
    readonly s: State,
    private readonly c: Configuration,
    readonly p: number,
    private readonly r: number,
  ) {}

  get process(): Process {
    return this.s.processes[this.p]!;
  }

  get request(): Request {
    return this.process.requests[this.r]!;
  }

  go(at: Place): void {
    this.request.at = at;
  }

  write(rank: number, { token, fence, fingerprint }: Claim, outcome = 0): void {
    this.writes.push({ rank, token, fence, fingerprint, outcome });
  }

  execute(statement: Statement): Reply {
    const { s, c } = this;
    const reply = execute(s, c, statement);
    if (!reply.done) return reply;
    if (statement.verb === 'release' && statement.fence) {
      s.standing = s.standing.filter((token) => token !== statement.token);
      s.effects = []; // its handler was told of earlier attempts, and answers for them
    }
    if (statement.verb === 'renew' && s.effects.includes(reply.token) && !s.standing.includes(reply.token))
      s.standing.push(reply.token);
    return reply;
  }

  /** PendingWrites.complete: of two outcomes of the key the one with the higher fence stays. */
  keep(outcome: Statement): void {
    const waiting = this.process.outcome;
    const keeps = !waiting || (waiting.fence < outcome.fence && this.c.mutant !== 'older outcome kept');
    const { row } = this.s;
    expect(
      keeps || row?.token !== outcome.token || row.outcome > 0 || waiting.token === outcome.token,
      'no outcome is forgotten',
    );
    if (keeps) this.process.outcome = outcome;
  }

  /** What TieredStoreService.refill writes to Redis for a row that was read. */
  refill(row: Readonly<Row>): void {
    if (row.outcome) this.write(RANK.completed, row, row.outcome);
    else if (!row.lapsed && (row.attempt === 1 || this.c.mutant === 'hint of a takeover refilled'))
      this.write(RANK.hint, row);
  }

  start(): void {
    const { s, request } = this;
    const { row } = s;
    expect(row?.token === request.token && row.fence === request.fence && !row.outcome, 'Postgres decides');
    expect(s.seen === 0, 'no execution after an answer');
    expect(s.standing.length === 0, 'one execution');
    expect(s.effects.length === 0 || request.attempt > 1, 'attempts are told');
    s.standing.push(request.token);
    s.effects.push(request.token);
    this.executeAt('running');
  }

  /** Transactions.begin has the lock of the key. */
  open(claims: boolean): void {
    const { token, fence, fingerprint, attempt } = this.request;
    this.s.sessions.push({
      token,
      fence,
      fingerprint,
      attempt,
      effect: false,
      claims,
      cut: false,
      commits: false,
    });
  }

  /** As {@link start}, without a row: a handler in a transaction leaves nothing if it is interrupted. */
  startInTransaction(): void {
    const { s, request } = this;
    expect(s.seen === 0, 'no execution after an answer');
    expect(s.effects.length === 0 || request.attempt > 1, 'attempts are told');
    this.executeAt('running');
  }

  /** Protocol.lead: Postgres is away, and `onOutage: 'execute'`. */
  startUnprotected(): void {
    const { process, request } = this;
    const others = process.requests.filter((other) => other !== request && other.at !== 'joined');
    expect(
      !process.outcome &&
        others.every(({ at }) => !HOLDING.has(at) && at !== 'waiting' && at !== 'unprotected'),
      'unprotected alone',
    );
    this.executeAt('unprotected');
  }

  /** InFlightRequest.execute: of those that follow, only duplicates that wait go on doing so. */
  private executeAt(at: Place): void {
    const { process, request } = this;
    this.go(at);
    if (!request.leads) return;
    process.requests = process.requests.filter(
      (other) => other.at !== 'joined' || mayWaitFor(request, other, this.c),
    );
  }

  /** Protocol.waitElsewhere: the row is another's, and its lease lives. */
  wait(fingerprint: number): void {
    const { process, request, c } = this;
    const { leads } = request;
    Object.assign(request, { at: 'waiting', leads: false, asked: false });
    if (!leads) return;
    for (const other of process.requests.filter(({ at }) => at === 'joined')) {
      if (other.fingerprint === fingerprint && c.inFlight === 'wait')
        Object.assign(other, { at: 'waiting', fresh: true });
      else process.requests = process.requests.filter((each) => each !== other);
    }
  }

  /** The row is an orphan, or of another request: who has a use for it tries itself. */
  giveWay(row: Readonly<Row>): void {
    const { process, request } = this;
    const followers = request.leads ? process.requests.filter(({ at }) => at === 'joined') : [];
    process.requests = process.requests.filter((other) => other !== request);
    for (const follower of followers) {
      const takesOver = row.lapsed && this.c.onOrphan === 'retry';
      if (
        follower.fingerprint !== row.fingerprint ||
        (row.lapsed && !takesOver) ||
        (!row.lapsed && this.c.inFlight === 'reject')
      )
        process.requests = process.requests.filter((other) => other !== follower);
      else if (row.lapsed) enter(process, follower, this.c);
      else Object.assign(follower, { at: 'waiting', leads: false, fresh: true });
    }
  }

  see({ outcome, fingerprint }: Outcome, request: Request): void {
    expect(fingerprint === request.fingerprint, 'its own request');
    if (this.s.forgotten.includes(outcome)) {
      // A Redis that fails over to a replica without the mark has the copy again: docs/operate/operating.md says so.
      if (this.c.faults.failovers === 0) expect(!request.late, 'what is forgotten stays so');
      return;
    }
    expect(this.s.seen === 0 || this.s.seen === outcome, 'one answer');
    this.s.seen = outcome;
  }

  /** Replays an outcome, or refuses the request as another than the one that had it. */
  replay(record: Outcome): void {
    this.end(record);
  }

  /** It begins anew. */
  enter(): void {
    this.request.fresh = true;
    enter(this.process, this.request, this.c);
  }

  /** Protocol.answer: the request has its answer, and so have those that joined it, or they go on by themselves. */
  end(ending: Ending): void {
    const { process, request } = this;
    const followers = request.leads ? process.requests.filter(({ at }) => at === 'joined') : [];
    process.requests = process.requests.filter((other) => other !== request);
    const sees = (other: Request): void => {
      if (typeof ending === 'object' && ending.fingerprint === other.fingerprint) this.see(ending, other);
    };
    sees(request);
    for (const follower of followers) {
      if (ending === 'try again') {
        enter(process, follower, this.c);
        continue;
      }
      process.requests = process.requests.filter((other) => other !== follower);
      sees(follower);
    }
  }
}

/** Protocol.answer: joins the request of this process that leads, or asks the stores. */
function enter(process: Process, request: Request, c: Configuration): void {
  const beside = c.mutant === 'joins equal requests only';
  const leader = process.requests.find(({ leads }) => leads);
  if (leader && EXECUTING.has(leader.at) && !beside && !mayWaitFor(leader, request, c)) {
    process.requests = process.requests.filter((other) => other !== request); // 422 or 409, at once
    return;
  }
  const joins = leader !== undefined && (!beside || mayWaitFor(leader, request, c));
  const late = request.late && (!joins || leader.late);
  Object.assign(request, { at: joins ? 'joined' : 'recall', leads: !joins && !leader, late, asked: false });
}

/** Places in which a handler runs, or has run, for the request that leads. */
const EXECUTING: ReadonlySet<Place> = new Set([
  'running',
  'unprotected',
  'complete',
  'vouch',
  'release',
  'outlived',
  'insert',
  'commit',
  'resolve',
]);

function mayWaitFor(leader: Request, request: Request, c: Configuration): boolean {
  return leader.fingerprint === request.fingerprint && c.inFlight === 'wait';
}

const isOutcome = ({ outcome }: Copy): boolean => outcome > 0;

class Stepper implements Steps {
  readonly list: Step[] = [];
  cut = false;

  private readonly transactions: TransactionSteps;

  constructor(
    private readonly s: State,
    private readonly c: Configuration,
  ) {
    this.transactions = new TransactionSteps(s, c, (...step) => this.add(...step));
  }

  /** Adds a step, once for each thing that can become of the Redis writes it sends. */
  private add(label: string, fault: boolean, change: (draft: Draft) => void, p = 0, r = 0): void {
    const draft = new Draft(clone(this.s), this.c, p, r);
    change(draft);
    const broken = takeBroken();
    const [write] = this.c.redis ? draft.writes : [];
    if (!write) {
      this.list.push({ label, fault, next: draft.s, broken });
      return;
    }
    const landed = clone(draft.s);
    put(landed, this.c, write);
    this.list.push({ label, fault, next: landed, broken });
    if (landed.redis === draft.s.redis) return; // nothing changed, so it may as well be lost
    this.list.push({ label: `${label}; its write to Redis is lost`, fault: true, next: draft.s, broken });
    if (draft.s.left.lateRedis > 0) {
      const late = clone(draft.s);
      late.wire.push(write);
      spend(late, 'lateRedis');
      this.list.push({
        label: `${label}; its write to Redis lies in a socket`,
        fault: true,
        next: late,
        broken,
      });
    }
  }

  /** What time and the faults of others do. */
  environment(): void {
    const { s, c } = this;
    const { left, row } = s;
    if (s.arrived < c.requests) this.arrivals();
    this.transactions.environment();
    this.operator();
    s.wire.forEach((copy, i) => {
      this.add(`Redis runs a late write (${copyName(copy)})`, true, (draft) => {
        draft.s.wire.splice(i, 1);
        put(draft.s, c, copy);
      });
    });
    s.late.forEach((statement, i) => {
      this.add(`Postgres runs a late ${statement.verb} of token ${statement.token}`, true, (draft) => {
        draft.s.late.splice(i, 1);
        draft.execute(statement);
      });
    });
    const mayForget = !(c.keepsVouched && vouches(s));
    if (s.redis && left.wipes > 0 && mayForget) {
      this.add('Redis forgets the key', true, (draft) => {
        draft.s.redis = null;
        spend(draft.s, 'wipes');
      });
    }
    if (left.failovers > 0 && s.redis !== s.replica) {
      this.add('the replica of Redis catches up', true, (draft) => (draft.s.replica = draft.s.redis));
      if (mayForget) {
        this.add('Redis fails over to a replica that lags', true, (draft) => {
          draft.s.redis = draft.s.replica;
          draft.s.replica = null;
          spend(draft.s, 'failovers');
        });
      }
    }
    if (row && !row.outcome && !row.lapsed && !row.expired) {
      const owner = holderOf(s, row.token);
      if ((!owner || owner.lapsed) && c.mutant !== 'claim without a lease') {
        this.add(`the lease of token ${row.token} lapses`, false, (draft) => {
          draft.s.row!.lapsed = true;
          if (c.onOrphan === 'retry')
            draft.s.standing = draft.s.standing.filter((token) => token !== row.token);
        });
      }
    }
    if (row && left.expiries > 0 && !row.expired && (row.outcome > 0 || row.lapsed) && this.isQuiet()) {
      this.add('the record expires', false, (draft) => {
        draft.s.row!.expired = true;
        beginAnew(draft.s);
        spend(draft.s, 'expiries');
      });
    }
    if (row?.expired) this.add('the cleanup deletes the record', false, (draft) => (draft.s.row = null));
  }

  /** TieredStoreService.forget, and `purge`, which asks the same of each record. Redis is told before Postgres. */
  private operator(): void {
    const { operator, row, left } = this.s;
    if (!operator) {
      if (left.forgets === 0 || !row || row.expired || (!row.outcome && !row.lapsed)) return;
      const { token, fence, fingerprint } = row;
      this.add(`an operator is to forget token ${token}`, false, (draft) => {
        draft.s.operator = { at: this.c.redis ? 'mark' : 'delete', token, fence, fingerprint };
        spend(draft.s, 'forgets');
      });
      return;
    }
    this.add('the operator gives up', true, (draft) => (draft.s.operator = null));
    if (operator.at === 'mark') {
      this.add('the operator marks the record as removed in Redis', false, (draft) => {
        const { token, fence, fingerprint } = operator;
        // An outcome that Redis alone has ends here, also if the row turns out to have changed.
        if (draft.s.redis?.rank === RANK.pending) forgetPast(draft.s);
        if (this.c.mutant === 'forgotten without a mark in Redis') draft.s.redis = null;
        else put(draft.s, this.c, { rank: RANK.removed, token, fence, fingerprint, outcome: 0 });
        draft.s.operator = { ...operator, at: 'delete' };
      });
      return;
    }
    const deleteRecord = ({ s }: Draft): boolean => {
      if (!forget(s, this.c, operator)) return false;
      forgetPast(s);
      return true;
    };
    this.add('the operator deletes the record in Postgres, and is told so', false, (draft) => {
      draft.s.operator = null;
      if (deleteRecord(draft)) draft.s.told = true;
    });
    if (left.postgres === 0) return;
    this.add('the operator deletes the record in Postgres, and the reply is lost', true, (draft) => {
      spend(draft.s, 'postgres');
      draft.s.operator = null;
      deleteRecord(draft);
    });
  }

  /**
   * A retention is far longer than anything under way, but for a process that is frozen in its handler; and than
   * what Redis keeps.
   */
  private isQuiet(): boolean {
    const { redis, replica, wire, late, sessions, operator, processes } = this.s;
    if (redis || replica || operator || wire.length + late.length + sessions.length > 0) return false;
    return processes.every(
      ({ outcome, requests }) => !outcome && requests.every(({ at }) => at === 'running' || at === 'claimed'),
    );
  }

  private arrivals(): void {
    const { s, c } = this;
    s.processes.forEach(({ requests, outcome, releases }, p) => {
      // Processes without anything in memory are alike.
      const idle = (i: number): boolean => {
        const other = s.processes[i]!;
        return other.requests.length === 0 && !other.outcome && other.releases.length === 0;
      };
      if (
        requests.length === 0 &&
        !outcome &&
        releases.length === 0 &&
        s.processes.findIndex((_, i) => idle(i)) < p
      )
        return;
      for (let fingerprint = 0; fingerprint < Math.min(c.fingerprints, s.arrived + 1); fingerprint++) {
        const id = s.arrived + 1;
        const what = c.fingerprints > 1 ? ` (fingerprint ${fingerprint})` : '';
        for (const transaction of c.transactions ? [false, true] : [false])
          this.add(
            `request ${id}${what}${transaction ? ' (transaction mode)' : ''} comes to process ${p + 1}`,
            false,
            (draft) => {
              draft.s.arrived++;
              const process = draft.s.processes[p]!;
              const request: Request = {
                id,
                fingerprint,
                at: 'recall',
                leads: false,
                late: s.told,
                fresh: c.inFlight === 'reject',
                asked: false,
                standing: null,
                transaction,
                sawNothing: false,
                token: 0,
                fence: 0,
                attempt: 0,
                outcome: 0,
                lapsed: false,
                sawOrphan: false,
              };
              process.requests.push(request);
              enter(process, request, c);
            },
          );
      }
    });
  }

  /** A process as such: its crash, and what it brings to Postgres in the background (PendingWrites.flush). */
  background(p: number): void {
    const { outcome, releases, requests } = this.s.processes[p]!;
    if (this.s.left.crashes > 0 && (outcome || releases.length + requests.length > 0)) {
      this.add(`process ${p + 1} crashes`, true, (draft) => {
        for (const { token } of requests)
          for (const session of draft.s.sessions) if (session.token === token) session.cut = true;
        draft.s.processes[p] = { requests: [], outcome: null, releases: [] };
        spend(draft.s, 'crashes');
      });
    }
    if (outcome) this.settle(`process ${p + 1}`, p, 0, () => undefined);
    releases.forEach((release, i) => {
      this.add(
        `process ${p + 1} gives token ${release.token} back`,
        false,
        (draft) => {
          draft.execute(release);
          draft.process.releases.splice(i, 1);
        },
        p,
      );
    });
  }

  /** PendingWrites.land: the outcome that waits in memory is brought to Postgres. */
  private settle(who: string, p: number, r: number, failed: (draft: Draft) => void): void {
    const outcome = this.s.processes[p]!.outcome!;
    this.sql(`${who} brings the outcome of token ${outcome.token}`, outcome, p, r, {
      reply: (draft, reply) => {
        draft.process.outcome = null;
        if (reply.done) draft.write(RANK.completed, outcome, outcome.outcome);
        else if (reply.row) draft.refill(reply.row);
      },
      failed,
    });
  }

  /** An operation on Postgres, and the ways in which it fails: TierGate.ask, PostgresConnection.operation. */
  private sql(
    label: string,
    statement: Statement,
    p: number,
    r: number,
    then: {
      reply: (draft: Draft, reply: Reply) => void;
      failed: (draft: Draft, sent: Statement | undefined) => void;
    },
  ): void {
    const { s, c } = this;
    const claims = statement.verb === 'claim' && !statement.token;
    const changes = statement.verb !== 'claim' || wins(s, c, statement);
    const exhausted = claims && s.tokens >= c.claims;
    const named = (draft: Draft): Statement =>
      claims ? { ...statement, token: ++draft.s.tokens } : statement;

    if (exhausted && changes) this.cut = true;
    else {
      this.add(
        `${label} in Postgres`,
        false,
        (draft) => then.reply(draft, draft.execute(changes ? named(draft) : statement)),
        p,
        r,
      );
    }
    if (s.left.postgres === 0) return;
    this.add(`${label}: Postgres cannot be reached`, true, (draft) => {
      spend(draft.s, 'postgres');
      then.failed(draft, undefined);
    }, p, r); // prettier-ignore
    if (exhausted) return;
    if (changes) {
      this.add(
        `${label} in Postgres, and the reply is lost`,
        true,
        (draft) => {
          spend(draft.s, 'postgres');
          const sent = named(draft);
          draft.execute(sent);
          then.failed(draft, sent);
        },
        p,
        r,
      );
    }
    if (changes && claims) {
      // PostgresConnection: a connection that was found dead is replaced, and the statement is sent once more.
      this.add(
        `${label} in Postgres, the connection dies, and it is sent again`,
        true,
        (draft) => {
          spend(draft.s, 'postgres');
          const sent = named(draft);
          draft.execute(sent);
          draft.request.token = sent.token;
        },
        p,
        r,
      );
    }
    if (s.left.lateSql > 0) {
      this.add(
        `${label}: Postgres does not answer in time, and will run it later`,
        true,
        (draft) => {
          spend(draft.s, 'postgres');
          spend(draft.s, 'lateSql');
          const sent = named(draft);
          draft.s.late.push(sent);
          then.failed(draft, sent);
        },
        p,
        r,
      );
    }
  }

  /** A read of Redis; it may fail at any time, but where a pending outcome is at stake and the assumption holds. */
  private recall(
    label: string,
    p: number,
    r: number,
    then: { knows: (draft: Draft, copy: Copy) => boolean; fails: (draft: Draft) => void },
    mayFail = true,
  ): void {
    const { redis } = this.s;
    const reading = { known: false };
    if (redis && this.c.redis) {
      this.add(
        `${label} reads in Redis: ${copyName(redis)}`,
        false,
        (draft) => {
          reading.known = then.knows(draft, redis);
          if (!reading.known) then.fails(draft);
        },
        p,
        r,
      );
    }
    if (redis && !reading.known && redis.rank !== RANK.pending) return; // a failure makes no difference
    if (redis && !mayFail) return;
    const fault = redis !== null && this.c.redis;
    this.add(
      fault ? `${label} gets no answer from Redis` : `${label} finds nothing in Redis`,
      fault,
      then.fails,
      p,
      r,
    );
  }

  request(p: number, r: number): void {
    const request = this.s.processes[p]!.requests[r]!;
    const who = `request ${request.id}`;
    this.lease(request, who, p, r);
    switch (request.at) {
      case 'recall':
        return this.recallFirst(who, p, r);
      case 'ask':
        return this.claim(request, who, p, r);
      case 'look up':
        return this.lookUp(request, who, p, r);
      case 'fall back':
        return this.recall(who, p, r, {
          knows: (draft, copy) => this.answers(draft, copy),
          fails: (draft) => this.outage(draft),
        });
      case 'look aside':
        return this.lookAside(request, who, p, r);
      case 'adopt':
        return this.adopt(request, who, p, r);
      case 'claimed':
        return this.begin(request, who, p, r);
      case 'insert':
      case 'commit':
      case 'resolve':
      case 'locked':
        return this.transactions.request(request, who, p, r);
      case 'give up':
        return this.giveUp(request, who, p, r);
      case 'running':
        return this.run(request, who, p, r);
      case 'complete':
        return this.complete(request, who, p, r);
      case 'vouch':
        return this.vouch(request, who, p, r);
      case 'release':
        return this.release(request, who, p, r);
      case 'waiting':
      case 'outlived':
        return this.wait(request, who, p, r);
      case 'unprotected':
        this.add(`the handler of ${who} ends, unprotected`, false, (draft) => draft.end('refused'), p, r);
        return;
      case 'joined':
        this.add(`${who} has waited long enough`, false, (draft) => draft.end('try again'), p, r);
    }
  }

  /** The owner's own clock, and its heartbeat (lib/core/lease.ts). */
  private lease(request: Request, who: string, p: number, r: number): void {
    if (!HOLDING.has(request.at)) return;
    if (!request.lapsed && this.s.left.lapses > 0) {
      this.add(`the lease of ${who} ends by its own clock`, true, (draft) => {
        draft.request.lapsed = true;
        spend(draft.s, 'lapses');
      }, p, r); // prettier-ignore
    }
    if (
      request.lapsed &&
      request.at !== 'claimed' &&
      this.s.row?.token === request.token &&
      !this.s.row.outcome
    ) {
      const renewal = statement('renew', request);
      this.sql(`${who} renews its lease`, renewal, p, r, {
        reply: (draft, reply) => (draft.request.lapsed = !reply.done),
        failed: () => undefined,
      });
    }
  }

  private recallFirst(who: string, p: number, r: number): void {
    if (
      this.c.mutant === 'naive fallback' &&
      !this.s.redis &&
      this.c.redis &&
      this.s.tokens < this.c.claims
    ) {
      this.add(`${who} finds nothing in Redis and runs`, false, (draft) => {
        const fence = ++draft.s.sequence;
        Object.assign(draft.request, { token: ++draft.s.tokens, fence, attempt: 1 });
        draft.write(RANK.hint, draft.request);
        draft.start();
      }, p, r); // prettier-ignore
    }
    if (this.c.redis) {
      this.add(`${who} does not ask Redis first`, false, (draft) => draft.go('ask'), p, r);
    }
    const ask = (draft: Draft): void => {
      draft.request.asked = true;
      draft.go('ask');
    };
    this.recall(who, p, r, {
      knows: (draft, copy) => {
        // A pending outcome is Redis' word alone: Postgres is asked for its own first.
        if (!this.needsConfirmation(copy)) return this.answers(draft, copy);
        draft.keep(completion(copy));
        ask(draft);
        return true;
      },
      fails: ask,
    });
  }

  /** TieredStoreService.claim: an outcome that Redis has goes before what Postgres has answered; a hint does not. */
  private lookUp({ standing }: Request, who: string, p: number, r: number): void {
    this.recall(`${who}, whose key is known,`, p, r, {
      knows: (draft, copy) => {
        if (!isOutcome(copy)) return false;
        draft.request.standing = null;
        if (!this.needsConfirmation(copy)) return this.answers(draft, copy);
        draft.keep(completion(copy));
        draft.go('ask');
        return true;
      },
      fails: (draft) => {
        draft.request.standing = null;
        this.refused(draft, standing!);
      },
    });
  }

  private needsConfirmation(copy: Copy): boolean {
    return copy.rank === RANK.pending && this.c.mutant !== 'pending outcome replayed unconfirmed';
  }

  /** TieredStoreService.answers, and what the protocol does with it. */
  private answers(draft: Draft, copy: Copy): boolean {
    if (copy.rank === RANK.pending) draft.keep(completion(copy));
    if (isOutcome(copy)) {
      draft.replay(copy);
      return true;
    }
    const { fresh, fingerprint, token } = draft.request;
    const another = copy.rank === RANK.hint && copy.token !== token && copy.fingerprint === fingerprint;
    if (fresh || !another) return false;
    // A hint is no ground to refuse one that follows: it asks Postgres itself.
    const { process, request } = draft;
    const askers = request.leads
      ? process.requests.filter((other) => other.at === 'joined' && !mayWaitFor(request, other, this.c))
      : [];
    const { leads } = request;
    Object.assign(request, { at: 'waiting', leads: false, asked: false });
    if (leads)
      for (const other of process.requests.filter(({ at }) => at === 'joined')) {
        if (askers.includes(other)) Object.assign(other, { fresh: true, at: 'recall' });
        else Object.assign(other, { at: 'waiting', fresh: true });
      }
    for (const asker of askers) enter(process, asker, this.c);
    return true;
  }

  /** Protocol.lead: the store could not be asked. */
  private outage(draft: Draft): void {
    const { process, request } = draft;
    const { mutant, onOutage } = this.c;
    const knows = process.outcome && mutant !== 'unprotected beside an outcome';
    if (onOutage === 'reject' || knows) return draft.end('refused');
    const waiting = process.requests.find(({ at }) => at === 'waiting');
    if (!waiting || mutant === 'unprotected beside a wait') return draft.startUnprotected();
    if (mayWaitFor(waiting, request, this.c)) draft.wait(waiting.fingerprint);
    else draft.end('try again');
  }

  private claim(request: Request, who: string, p: number, r: number): void {
    // An orphan is taken over as always; the transaction then completes that claim.
    const { row } = this.s;
    const leased = request.token > 0 || (row !== null && !row.outcome && (row.expired || row.lapsed));
    if (request.transaction && !leased)
      return this.transactions.begin(request, who, p, r, this.known.bind(this));
    if (this.s.processes[p]!.outcome) {
      this.settle(who, p, r, (draft) => draft.go('fall back'));
      return;
    }
    const { mutant } = this.c;
    const readsFirst =
      mutant === 'takeover without compare-and-set' || mutant === 'look at Redis before the takeover';
    if (readsFirst && !request.sawOrphan && this.s.row?.lapsed) {
      const left =
        mutant === 'look at Redis before the takeover' && this.s.redis?.outcome ? this.s.redis : undefined;
      this.add(`${who} reads the orphan`, false, (draft) => {
        if (left) draft.replay(left);
        else draft.request.sawOrphan = true;
      }, p, r); // prettier-ignore
      return;
    }
    const takeOver = this.c.onOrphan === 'retry' && (!readsFirst || request.sawOrphan);
    this.sql(`${who} claims`, { ...statement('claim', request), takeOver }, p, r, {
      reply: (draft, reply) => {
        if (reply.done) {
          const { token, fence, attempt } = reply;
          // What Redis knows, only `look aside` is to find out now.
          Object.assign(draft.request, { token, fence, attempt, lapsed: false, asked: true });
          const looks =
            mutant !== 'takeover without a look at Redis' && mutant !== 'look at Redis before the takeover';
          draft.go(attempt > 1 && looks ? 'look aside' : 'claimed');
        } else this.known(draft, reply.row!);
      },
      failed: (draft, sent) => {
        if (sent) draft.process.releases.push({ ...sent, verb: 'release', fence: 0, takeOver: false });
        Object.assign(draft.request, { at: 'fall back', token: 0, asked: true });
      },
    });
  }

  /** A row stands in the way: Redis is asked for its outcome, if it was not before. */
  private known(draft: Draft, row: Readonly<Row>): void {
    const { request } = draft;
    if (request.asked || !this.c.redis || this.c.mutant === 'refused without a look at Redis')
      return this.refused(draft, row);
    Object.assign(request, { at: 'look up', asked: true, standing: row });
  }

  /** Protocol.ask. */
  private refused(draft: Draft, row: Readonly<Row>): void {
    const { request } = draft;
    draft.refill(row);
    if (request.token) expect(row.token !== request.token, 'not refused by its own claim');
    Object.assign(request, { token: 0, fence: 0, attempt: 0, lapsed: false });
    expect(
      row.outcome > 0 || request.asked || row.fingerprint !== request.fingerprint || !vouches(this.s),
      'no outcome is overlooked',
    );
    if (row.outcome) draft.replay(row);
    else if (row.fingerprint !== request.fingerprint || row.lapsed || this.c.inFlight === 'reject')
      draft.giveWay(row);
    else draft.wait(row.fingerprint);
  }

  private lookAside(request: Request, who: string, p: number, r: number): void {
    const mayFail = !(this.c.keepsVouched && vouches(this.s));
    this.recall(`${who}, as it has taken over (token ${request.token}),`, p, r, {
      knows: (draft, copy) => {
        if (!isOutcome(copy) || copy.fingerprint !== request.fingerprint) return false;
        const { s, c } = this;
        if (copy.fence <= s.forgottenUpTo && c.mutant !== 'forgotten outcome adopted') return false;
        expect(!s.told || !s.forgotten.includes(copy.outcome), 'what is forgotten is not recorded again');
        draft.request.outcome = copy.outcome;
        draft.go('adopt');
        return true;
      },
      fails: (draft) => draft.go('claimed'),
    }, mayFail); // prettier-ignore
  }

  private adopt(request: Request, who: string, p: number, r: number): void {
    const adopted = statement('complete', request);
    this.sql(`${who} records the outcome of token ${request.outcome} as its own`, adopted, p, r, {
      reply: (draft, reply) => {
        if (reply.done) {
          draft.write(RANK.completed, request, request.outcome);
          draft.replay(request);
        } else if (reply.row) this.refused(draft, reply.row);
        else draft.replay(request); // an operator has deleted its record
      },
      failed: (draft) => {
        draft.keep(adopted);
        draft.replay(request);
      },
    });
  }

  private begin(request: Request, who: string, p: number, r: number): void {
    const starts = !request.lapsed || this.c.mutant === 'handler started after its lease';
    const what = `${starts ? 'runs its handler' : 'sees that its lease has lapsed'} (token ${request.token}, attempt ${request.attempt})`;
    this.add(`${who} ${what}`, false, (draft) => {
      draft.write(RANK.hint, request);
      if (!starts || (request.transaction && draft.s.sessions.length > 0)) return draft.go('give up');
      draft.start();
      if (request.transaction) draft.open(true);
    }, p, r); // prettier-ignore
  }

  private giveUp(request: Request, who: string, p: number, r: number): void {
    const abandon = { ...statement('release', request), fence: 0 };
    const again = (draft: Draft): void => {
      Object.assign(draft.request, {
        at: 'recall',
        asked: false,
        token: 0,
        fence: 0,
        attempt: 0,
        fresh: true,
        lapsed: false,
      });
    };
    this.sql(`${who} gives its claim back`, abandon, p, r, {
      reply: again,
      failed: (draft) => {
        draft.process.releases.push(abandon);
        again(draft);
      },
    });
  }

  private run(request: Request, who: string, p: number, r: number): void {
    if (request.transaction) return this.transactions.run(request, who, p, r);
    const early = this.c.mutant === 'answer before recording';
    this.add(`the handler of ${who} ends${early ? ', and its response is sent' : ''}`, false, (draft) => {
      draft.request.outcome = request.token;
      if (early) draft.see(draft.request, request);
      draft.go('complete');
    }, p, r); // prettier-ignore
    if (this.s.left.failures > 0) {
      this.add(`the handler of ${who} fails`, true, (draft) => {
        spend(draft.s, 'failures');
        draft.go('release');
      }, p, r); // prettier-ignore
    }
  }

  private complete(request: Request, who: string, p: number, r: number): void {
    const outcome = statement('complete', request);
    this.sql(`${who} records its outcome`, outcome, p, r, {
      reply: (draft, reply) => {
        if (reply.done) {
          draft.write(RANK.completed, request, request.outcome);
          draft.end(request);
        } else if (!reply.row)
          draft.end('refused'); // an operator has deleted its record
        else {
          draft.refill(reply.row);
          if (reply.row.outcome) draft.replay(reply.row);
          else draft.go('outlived');
        }
      },
      failed: (draft) => {
        draft.keep(outcome);
        if (this.c.redis && !request.lapsed) draft.go('vouch');
        else draft.end('refused');
      },
    });
  }

  private vouch(request: Request, who: string, p: number, r: number): void {
    const { token, fence, fingerprint, outcome } = request;
    const pending: Copy = { rank: RANK.pending, token, fence, fingerprint, outcome };
    const inTime = !request.lapsed || this.c.mutant === 'pending outcome written after its lease';
    if (inTime) {
      this.add(`${who} leaves its outcome in Redis`, false, (draft) => {
        const stands = put(draft.s, this.c, pending);
        draft.end(stands && !request.lapsed ? request : 'refused');
      }, p, r); // prettier-ignore
      this.add(`${who} leaves its outcome in Redis, and the reply is lost`, true, (draft) => {
        put(draft.s, this.c, pending);
        draft.end('refused');
      }, p, r); // prettier-ignore
      if (this.s.left.lateRedis > 0) {
        this.add(`the outcome of ${who} lies in a socket of Redis`, true, (draft) => {
          draft.s.wire.push(pending);
          spend(draft.s, 'lateRedis');
          draft.end('refused');
        }, p, r); // prettier-ignore
      }
    }
    this.add(`${who} cannot leave its outcome in Redis`, true, (draft) => draft.end('refused'), p, r);
  }

  private release(request: Request, who: string, p: number, r: number): void {
    const release = statement('release', request);
    this.sql(`${who} gives the key back`, release, p, r, {
      reply: (draft) => {
        draft.write(RANK.removed, request);
        draft.end('try again');
      },
      failed: (draft) => {
        draft.process.releases.push(release);
        draft.end('try again');
      },
    });
  }

  /** Protocol.waitFor and what follows it; TieredStoreService.find. */
  private wait(request: Request, who: string, p: number, r: number): void {
    const { row, redis, left } = this.s;
    const outlived = request.at === 'outlived';
    const again = (draft: Draft): void => {
      if (outlived) draft.end('try again');
      else {
        draft.request.fresh = true;
        enter(draft.process, draft.request, this.c);
      }
    };
    const found = (draft: Draft, record: Outcome): void => {
      if (record.fingerprint === request.fingerprint || outlived) draft.replay(record);
      else again(draft);
    };
    this.add(`${who} has waited long enough`, false, (draft) => draft.end('try again'), p, r);

    if (this.c.redis && redis && isOutcome(redis)) {
      if (!this.needsConfirmation(redis)) {
        this.add(`${who}, waiting, reads in Redis: ${copyName(redis)}`, false, (draft) => {
          if (redis.rank === RANK.pending) draft.keep(completion(redis));
          found(draft, redis);
        }, p, r); // prettier-ignore
      } else {
        this.add(`${who}, waiting, reads in Redis: ${copyName(redis)}`, false, (draft) => {
          draft.keep(completion(redis));
        }, p, r); // prettier-ignore
        if (left.postgres > 0) {
          this.add(`${who}, waiting, reads in Redis: ${copyName(redis)}; Postgres cannot be reached`, true, (draft) => {
            spend(draft.s, 'postgres');
            draft.keep(completion(redis));
            found(draft, redis);
          }, p, r); // prettier-ignore
        }
      }
    }
    if (!row || row.expired || (!row.outcome && row.lapsed)) {
      this.add(
        `${who}, waiting, finds the key ${row && !row.expired ? 'orphaned' : 'free'}`,
        false,
        again,
        p,
        r,
      );
    } else if (row.outcome) {
      this.add(`${who}, waiting, reads the outcome in Postgres`, false, (draft) => {
        draft.refill(row);
        found(draft, row);
      }, p, r); // prettier-ignore
    }
  }
}

function statement(
  verb: Statement['verb'],
  { token, fence, fingerprint, attempt, outcome }: Request,
): Statement {
  return { verb, token, fence, fingerprint, attempt, takeOver: false, outcome };
}

/** TieredStoreService.readCache: whoever reads a pending outcome brings it to Postgres. */
function completion({ token, fence, fingerprint, outcome }: Copy): Statement {
  return { verb: 'complete', token, fence, fingerprint, attempt: 1, takeOver: false, outcome };
}

function holderOf(s: State, token: number): Request | undefined {
  for (const { requests } of s.processes) {
    for (const request of requests) if (request.token === token && HOLDING.has(request.at)) return request;
  }
  return undefined;
}

/** From now on the key may run again, and have another outcome. */
function beginAnew(s: State): void {
  Object.assign(s, { standing: [], effects: [], seen: 0, committed: [] });
}

/** Places in which a request may have a token under which no handler has run. */
const NOT_RUN: ReadonlySet<Place> = new Set([
  'ask',
  'fall back',
  'look aside',
  'adopt',
  'claimed',
  'give up',
]);

/** As {@link beginAnew}, and no execution until now may answer a request that comes later. */
function forgetPast(s: State): void {
  const unused = new Set(
    s.processes.flatMap(({ requests }) =>
      requests.filter(({ at }) => NOT_RUN.has(at)).map(({ token }) => token),
    ),
  );
  s.forgotten = Array.from({ length: s.tokens }, (_, i) => i + 1).filter((token) => !unused.has(token));
  beginAnew(s);
}

function spend(s: State, fault: keyof Budget): void {
  s.left = { ...s.left, [fault]: s.left[fault] - 1 };
}

function copyName({ rank, token }: Copy): string {
  const name = Object.entries(RANK).find(([, value]) => value === rank)![0];
  return `${name} of token ${token}`;
}
