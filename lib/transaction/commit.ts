import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { StoreUnavailableError } from '../core/errors';
import type { Claim, IdempotencyRecord, Outcome, RecordId } from '../core/record';
import type { CompleteResult } from '../core/store';
import type { OutcomeCipher } from '../outcome/outcome-cipher';
import { setupError, sqlState } from '../store/postgres/connection/failures';
import { outcomeValues } from '../store/postgres/row';
import { byteaOf, printable } from '../store/postgres/schema/values';
import type { Begun } from './beginning';
import {
  conflict,
  endedByHandler,
  isConflict,
  lost,
  madeReadOnly,
  swallowedError,
  unresolved,
} from './failures';
import type { CommitResult, OpenTransaction } from './open-transaction';
import type { Value } from './messages';
import { RoundTripError } from './round-trip';
import { COMMIT, completeClaim, deleteExpired, insertCompleted, SET_ROLE, type Places } from './statements';
import type { Statement } from './session';

export interface CommitSettings {
  readonly retention: number;
  readonly cipher: OutcomeCipher;
  readonly timeout: number;
  /** What stands, by the word of Postgres, on a connection of the module's own. */
  readonly find: (id: RecordId) => Promise<IdempotencyRecord | undefined>;
  readonly isLocked: (id: RecordId) => Promise<boolean>;
}

const RESOLVE_EVERY = 25;
/** The transaction may not write. */
const READ_ONLY = '25006';

/** Writes an outcome and commits it with what its handler has written, in one round trip. */
export class Commit {
  constructor(
    private readonly places: Places,
    private readonly settings: CommitSettings,
  ) {}

  /** @throws IdempotencyError, or Postgres' own error: nothing of it is left then, unless it says otherwise */
  async run(transaction: OpenTransaction, outcome: Outcome): Promise<CommitResult> {
    const { claim, session, begun } = transaction;
    if (session.isBroken) throw lost(undefined);
    const before = this.before(begun);
    try {
      const results = await session.send([...before, this.completion(begun, outcome), [COMMIT]]);
      const [completed, end] = results.slice(before.length);
      transaction.close();
      if (end?.tag !== COMMIT) throw swallowedError(undefined);
      return { recorded: true, wrote: completed?.rows[0]?.[0] === 'true' };
    } catch (error) {
      if (!(error instanceof RoundTripError)) throw error;
      const { failure } = error;
      if (sqlState(error.cause) === READ_ONLY) {
        await transaction.rollBack();
        // Where it has drawn a fence it could write when it began. For a claim it has not: the server may be a standby.
        throw begun.standing === 'claim' ? lost(error.cause) : madeReadOnly(error.cause);
      }
      if (failure === 'connection') {
        transaction.close();
        if (error.sent) return this.resolve(claim, error.cause);
        throw lost(error.cause);
      }
      await transaction.rollBack();
      if (failure === 'unavailable' || failure === 'unprepared') throw lost(error.cause);
      const failedAt = error.results.length - before.length;
      if (failure === 'setup' && failedAt <= 0) throw setupError(error.cause);
      return this.explain(claim, error.cause, failedAt === 0);
    }
  }

  private before({ role, standing, claim }: Begun): Statement[] {
    const asItself: Statement = [SET_ROLE, role];
    return standing === 'expired'
      ? [asItself, [deleteExpired(this.places), byteaOf(claim.id.hash)]]
      : [asItself];
  }

  private completion({ claim, standing, start }: Begun, outcome: Outcome): Statement {
    const { retention, cipher } = this.settings;
    const [status, tombstone, headers, body] = outcomeValues(cipher.encrypt(claim, outcome));
    const { id, token, fence, fingerprint } = claim;
    const values: Value[] = [
      start,
      byteaOf(id.hash),
      token,
      String(fence),
      String(retention),
      String(status),
      tombstone,
      headers,
      body,
    ];
    return standing === 'claim'
      ? [completeClaim(this.places), ...values]
      : [
          insertCompleted(this.places),
          ...values,
          byteaOf(fingerprint),
          printable(id.scope),
          printable(id.key),
        ];
  }

  /**
   * Postgres has said no, and the transaction is rolled back.
   * @param ofOutcome whether to the outcome, rather than to what goes before it or to the commit
   */
  private async explain(claim: Claim, cause: unknown, ofOutcome: boolean): Promise<CompleteResult> {
    const state = sqlState(cause);
    if (state === '25P02') throw swallowedError(cause);
    if (ofOutcome && state === '23502') throw endedByHandler(cause);
    // Another record of the key, or the loss of the claim, or a snapshot that is older than either.
    const overtaken = ofOutcome && (state === '23505' || state === '22012');
    if (!overtaken && !isConflict(cause)) throw cause;
    const record = await this.settings.find(claim.id);
    if (record && record.token !== claim.token) return { recorded: false, record };
    throw conflict(cause);
  }

  /** The reply is lost. Once the key's lock is free, the transaction has ended, and its record is there or not. */
  private async resolve(claim: Claim, cause: unknown): Promise<CompleteResult> {
    const { timeout, find, isLocked } = this.settings;
    const deadline = performance.now() + timeout;
    for (;;) {
      try {
        if (!(await isLocked(claim.id))) {
          const record = await find(claim.id);
          if (record?.token === claim.token && record.state === 'completed') return { recorded: true };
          if (record?.state === 'completed') return { recorded: false, record };
          throw lost(cause);
        }
      } catch (error) {
        if (!(error instanceof StoreUnavailableError)) throw error;
      }
      if (performance.now() >= deadline) throw unresolved(cause);
      await delay(RESOLVE_EVERY * (0.5 + Math.random()));
    }
  }
}
