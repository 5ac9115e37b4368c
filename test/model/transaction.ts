import type { Configuration } from './configuration';
import { expect } from './properties';
import { RANK, type Request, type Row, type Session, type State } from './state';
import type { Add, Draft } from './steps';

/**
 * The transaction mode (lib/transaction): a request gets the key's lock and reads, its handler writes, and its outcome is
 * inserted and committed with that, in one transaction. Lock and read are one step here: what another can change between
 * the two, it can as well before them.
 */
export class TransactionSteps {
  constructor(
    private readonly s: State,
    private readonly c: Configuration,
    private readonly add: Add,
  ) {}

  /** What Postgres does with transactions whose client is not heard any more. */
  environment(): void {
    this.s.sessions.forEach((session, i) => {
      const { token, cut, commits } = session;
      if (commits) {
        this.add(`Postgres runs the late COMMIT of token ${token}`, true, (draft) => {
          commit(draft.s, draft.s.sessions[i]!);
        });
      } else if (cut) {
        this.add(`Postgres ends the transaction of token ${token}`, false, (draft) => {
          draft.s.sessions.splice(i, 1);
        });
      }
    });
  }

  /** Transactions.begin. */
  begin(
    request: Request,
    who: string,
    p: number,
    r: number,
    refused: (draft: Draft, row: Readonly<Row>) => void,
  ): void {
    const { s, c } = this;
    if (s.left.postgres > 0) {
      this.add(`${who} cannot begin: Postgres cannot be reached`, true, (draft) => {
        spend(draft.s, 'postgres');
        draft.go('fall back');
      }, p, r); // prettier-ignore
    }
    if (c.mutant === '23505 taken for success' && !request.sawNothing && !s.row) {
      this.add(
        `${who} begins, and finds no record`,
        false,
        (draft) => (draft.request.sawNothing = true),
        p,
        r,
      );
      return;
    }
    const isCompleted = s.row !== null && s.row.outcome > 0 && !s.row.expired; // it is read without the lock
    if (s.sessions.length > 0 && (!isCompleted || request.sawNothing)) {
      this.add(`${who} begins: the key is locked`, false, (draft) => lockedOut(draft), p, r);
      return;
    }
    const { row } = s;
    if (row && !isExpired(row) && !request.sawNothing) {
      this.add(`${who} begins, and reads the record`, false, (draft) => refused(draft, row), p, r);
      return;
    }
    if (s.tokens >= c.claims) return;
    this.add(`${who} begins, and its handler starts`, false, (draft) => {
      const fence = Math.max(++draft.s.sequence, (draft.s.row?.fence ?? 0) + 1);
      const token = ++draft.s.tokens;
      Object.assign(draft.request, { token, fence, attempt: 1, lapsed: false });
      expect(fence > draft.s.lastFence, 'fences rise');
      draft.s.lastFence = fence;
      draft.open(false);
      if (draft.request.sawNothing) draft.go('running');
      else draft.startInTransaction();
    }, p, r); // prettier-ignore
  }

  run(request: Request, who: string, p: number, r: number): void {
    const { s, c } = this;
    this.add(`the handler of ${who} ends`, false, (draft) => {
      draft.request.outcome = request.token;
      const session = sessionOf(draft.s, request);
      if (session && c.mutant === 'effects outside of the transaction') writeOutside(draft.s, session);
      else if (session) session.effect = true;
      draft.go('commit');
    }, p, r); // prettier-ignore
    if (s.left.failures > 0) {
      this.add(`the handler of ${who} fails, and its transaction is rolled back`, true, (draft) => {
        spend(draft.s, 'failures');
        rollBack(draft);
      }, p, r); // prettier-ignore
    }
    if (s.left.postgres > 0 && sessionOf(s, request)) {
      this.add(`the connection of ${who} dies`, true, (draft) => {
        spend(draft.s, 'postgres');
        close(draft.s, request);
      }, p, r); // prettier-ignore
    }
  }

  request(request: Request, who: string, p: number, r: number): void {
    if (request.at === 'commit') this.commit(request, who, p, r);
    if (request.at === 'insert') this.insert(request, who, p, r);
    if (request.at === 'resolve') this.resolve(request, who, p, r);
    if (request.at === 'locked') this.wait(who, p, r);
  }

  /** Transaction.complete. */
  private commit(request: Request, who: string, p: number, r: number): void {
    const { s, c } = this;
    if (!sessionOf(s, request)) {
      this.add(`${who} finds its transaction lost`, false, (draft) => rollBack(draft, 'refused'), p, r);
      return;
    }
    if (c.mutant === 'COMMIT before INSERT') {
      this.add(`${who} commits its effects`, false, (draft) => {
        const session = sessionOf(draft.s, request)!;
        writeOutside(draft.s, session);
        together(draft.s);
        draft.go('insert');
      }, p, r); // prettier-ignore
      return;
    }
    const lost = (draft: Draft): void => draft.go('resolve');
    this.add(`${who} writes its outcome and commits`, false, (draft) => {
      if (commit(draft.s, sessionOf(draft.s, request)!)) return committed(draft);
      if (c.mutant === '23505 taken for success') return committed(draft);
      const { row } = draft.s;
      if (row?.outcome && !row.expired) draft.replay(row);
      else rollBack(draft);
    }, p, r); // prettier-ignore
    if (s.left.postgres === 0) return;
    this.add(`${who} writes its outcome and commits, and the reply is lost`, true, (draft) => {
      spend(draft.s, 'postgres');
      commit(draft.s, sessionOf(draft.s, request)!);
      lost(draft);
    }, p, r); // prettier-ignore
    this.add(`the COMMIT of ${who} is lost`, true, (draft) => {
      spend(draft.s, 'postgres');
      sessionOf(draft.s, request)!.cut = true;
      lost(draft);
    }, p, r); // prettier-ignore
    if (s.left.lateSql === 0) return;
    this.add(`the COMMIT of ${who} is not answered in time, and runs later`, true, (draft) => {
      spend(draft.s, 'postgres');
      spend(draft.s, 'lateSql');
      Object.assign(sessionOf(draft.s, request)!, { cut: true, commits: true });
      lost(draft);
    }, p, r); // prettier-ignore
  }

  private insert(request: Request, who: string, p: number, r: number): void {
    this.add(`${who} writes its outcome`, false, (draft) => {
      if (draft.s.row) return draft.end('refused');
      commit(draft.s, sessionOf(draft.s, request)!);
      committed(draft);
    }, p, r); // prettier-ignore
  }

  /** Transaction.resolve: once the key's lock can be had, the transaction has ended, one way or the other. */
  private resolve(request: Request, who: string, p: number, r: number): void {
    this.add(`${who} does not find out in time what became of its commit`, false, (draft) => {
      draft.end('refused');
    }, p, r); // prettier-ignore
    if (sessionOf(this.s, request) && this.c.mutant !== 'ambiguity resolved without the lock') return;
    this.add(`${who} looks what became of its commit`, false, (draft) => {
      const { row } = draft.s;
      if (row?.token === request.token && row.outcome) return committed(draft);
      draft.s.denied.push(request.token);
      if (row?.outcome && !row.expired) draft.replay(row);
      else if (row?.token === request.token) draft.go('release');
      else draft.end('refused');
    }, p, r); // prettier-ignore
  }

  /** Poll: another transaction has the lock of the key. */
  private wait(who: string, p: number, r: number): void {
    const { s } = this;
    this.add(`${who} has waited long enough for the lock`, false, (draft) => draft.end('try again'), p, r);
    if (s.row?.outcome && !s.row.expired)
      this.add(
        `${who}, waiting for the lock, reads the outcome`,
        false,
        (draft) => draft.replay(s.row!),
        p,
        r,
      );
    else if (s.sessions.length === 0 || s.row)
      this.add(`${who} finds the lock free, or a record`, false, (draft) => draft.enter(), p, r);
  }
}

function sessionOf(s: State, { token }: Request): Session | undefined {
  return s.sessions.find((session) => session.token === token);
}

/** An outcome that may be forgotten, so that another may take its place. */
function isExpired({ outcome, expired }: Row): boolean {
  return outcome > 0 && expired;
}

function close(s: State, { token }: Pick<Request, 'token'>): void {
  s.sessions = s.sessions.filter((session) => session.token !== token);
}

/** The last pipeline of a transaction; false if a record stood in the way, or its claim was lost: it is rolled back. */
function commit(s: State, session: Session): boolean {
  const { token, fence, fingerprint, attempt, claims, effect } = session;
  const { row } = s;
  close(s, session);
  const own = row?.token === token && row.fence === fence && !row.outcome;
  if (claims ? !own : row !== null && !isExpired(row)) return false;
  s.row = { token, fence, attempt, fingerprint, outcome: token, lapsed: false, expired: false };
  if (effect) s.committed.push(token);
  expect(s.committed.length <= 1, 'one effect');
  expect(!s.denied.includes(token), 'denials are true');
  together(s);
  return true;
}

/** Of two broken protocols: what the handler has written is there, whatever becomes of the rest. */
function writeOutside(s: State, { token }: Session): void {
  s.committed.push(token);
  expect(s.committed.length <= 1, 'one effect');
}

function together({ row, committed: effects }: State): void {
  expect(
    effects.every((token) => row?.outcome === token),
    'effect and outcome together',
  );
}

function committed(draft: Draft): void {
  const { s, request } = draft;
  expect(s.committed.includes(request.token), 'answers are committed');
  draft.write(RANK.completed, request, request.token);
  draft.end({ outcome: request.token, fingerprint: request.fingerprint });
}

/** Nothing is left of it in Postgres, but for a claim that it was to complete. */
function rollBack(draft: Draft, ending: 'try again' | 'refused' = 'try again'): void {
  const { s, request } = draft;
  const held = s.row?.token === request.token && !s.row.outcome;
  close(s, request);
  together(s);
  if (held) draft.go('release');
  else draft.end(ending);
}

/** Whose request has the lock is not known, so all that follow wait as well. */
function lockedOut(draft: Draft): void {
  const { process, request } = draft;
  const { leads } = request;
  Object.assign(request, { at: 'locked', leads: false });
  if (!leads) return;
  for (const other of process.requests.filter(({ at }) => at === 'joined'))
    Object.assign(other, { at: 'locked', leads: false, fresh: true });
}

function spend(s: State, fault: keyof State['left']): void {
  s.left = { ...s.left, [fault]: s.left[fault] - 1 };
}
