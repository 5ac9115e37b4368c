import { randomUUID } from 'node:crypto';
import { StoreUnavailableError } from '../core/errors';
import type { Isolation } from '../core/policy';
import type { Claim } from '../core/record';
import type { BeginRequest } from '../core/transaction';
import { DeadlineError, setupError, type Failure } from '../store/postgres/connection/failures';
import { byteaOf } from '../store/postgres/schema/values';
import type { Connections } from './connections';
import { locksOf } from './lock';
import { RoundTripError } from './round-trip';
import type { StatementResult } from './pipeline';
import type { Session, Statement } from './session';
import { begin, read, ROLLBACK, TRY_LOCK, type Places } from './statements';

/** A transaction that is open, and has the lock of its key. */
export interface Begun {
  readonly session: Session;
  readonly claim: Claim;
  /** What the table has of the key: nothing, this claim, or a record that has expired. */
  readonly standing: 'nothing' | 'claim' | 'expired';
  /** When it began, by Postgres' clock, and in which role. */
  readonly start: string;
  readonly role: string;
}

/** After a restart of the server, all that the pool has may be dead. */
const MOST_TRIES = 3;

/** One that has cost a whole time-out is not: others would, too. */
function isWorthAnother(failure: Failure, error: unknown): boolean {
  if (failure === 'connection') return !(error instanceof DeadlineError);
  return failure === 'unprepared' || failure === 'transient';
}

/** Opens a transaction, locks the key and looks what stands, in one round trip. */
export class Beginning {
  /** @param isolation where the route says nothing */
  constructor(
    private readonly connections: Connections,
    private readonly places: Places,
    private readonly isolation: Isolation | undefined,
  ) {}

  /**
   * @param abandoned called once the connection is given back, if another has the key
   * @throws StoreUnavailableError; IdempotencySetupError
   */
  async run(request: BeginRequest, abandoned: () => void): Promise<Begun | 'locked' | 'standing'> {
    for (let tries = 1; ; tries++) {
      const session = await this.connections.take();
      try {
        const begun = foundOut(
          session,
          request,
          await session.send(this.statements(request, session.timeout)),
        );
        // The answer does not wait for that.
        if (typeof begun === 'string') void this.leave(session).then(abandoned);
        return begun;
      } catch (error) {
        session.destroy();
        if (!(error instanceof RoundTripError)) throw error;
        const { failure } = error;
        if (tries < MOST_TRIES && isWorthAnother(failure, error.cause)) continue;
        if (failure === 'setup') throw setupError(error.cause);
        if (failure === 'refused') throw error.cause;
        throw new StoreUnavailableError('postgres', 'begin', error.cause, false);
      }
    }
  }

  private statements({ id, policy }: BeginRequest, patience: number): Statement[] {
    const { key, held } = locksOf(id);
    return [
      [begin(policy.isolation ?? this.isolation)],
      [TRY_LOCK, key, held],
      [read(this.places), byteaOf(id.hash), String(policy.timeout), String(policy.timeout + patience)],
    ];
  }

  private async leave(session: Session): Promise<void> {
    await session.send([[ROLLBACK]]).catch(() => session.destroy());
    session.release();
  }
}

function foundOut(
  session: Session,
  { id, fingerprint, claim }: BeginRequest,
  [, lock, found]: readonly StatementResult[],
): Begun | 'locked' | 'standing' {
  const [start, role, backend, token, state, fence] = found?.rows[0] ?? [];
  // Also where another has the lock, maybe only to read the same: what is completed stays.
  if (state === 'completed') return 'standing';
  if (typeof lock?.rows[0]?.[0] !== 'string') return 'locked';
  if (typeof start !== 'string' || typeof role !== 'string') throw new TypeError('Postgres gave no row.');
  session.isServedBy(backend);
  if (claim) return claim.token === token ? { session, claim, standing: 'claim', start, role } : 'standing';
  if (state === 'in_progress') return 'standing';
  const own = { id, fingerprint, token: randomUUID(), fence: Number(fence), attempt: 1 };
  return { session, claim: own, standing: state === null ? 'nothing' : 'expired', start, role };
}
