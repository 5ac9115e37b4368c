import { Logger } from '@nestjs/common';
import { ForgottenRecordError, OverloadedError, StoreUnavailableError } from '../../core/errors';
import {
  isOfClaim,
  isOrphaned,
  type Claim,
  type IdempotencyRecord,
  type Outcome,
  type RecordId,
} from '../../core/record';
import type { RecordDirectory } from '../../core/record-directory';
import { noEncryption, type OutcomeCipher } from '../../outcome/outcome-cipher';
import type { ClaimRequest, ClaimResult, CompleteResult, IdempotencyStore } from '../../core/store';
import { completeValues, type ClaimRow } from './batch-statements';
import { Batches, type BatchesOptions } from './batches';
import type { PostgresConnection, Run } from './connection/postgres.connection';
import { forgetAll, isForgotten } from './forget';
import { claimOf, outcomeValues, recordOf, type RecordRow } from './row';
import { byteaOf, hashOf, printable } from './schema/values';
import * as statements from './schema/statements';
import type { TableIdentity } from './schema/table-identity';
import type { TableNames } from './schema/table-name';

export interface PostgresStoreOptions extends BatchesOptions {
  /** What outcomes pass on their way in and out. @default in the clear */
  readonly cipher?: OutcomeCipher;
  /** Has to be confirmed before the first claim. @default the table is not asked */
  readonly identity?: TableIdentity;
  readonly directory?: RecordDirectory;
}

/** Each round is lost only to another claim, completion or expiry of the same key that came first. */
const ROUNDS = 10;
/** Problems name what they found, so there could be many. */
const MOST_REPORTS = 100;

/** The store in Postgres: the arbiter, whose committed rows alone let a handler run. */
export class PostgresStore implements IdempotencyStore {
  private readonly logger = new Logger('Idempotency');
  private readonly table: string;
  private readonly retention: number;
  private readonly cipher: OutcomeCipher;
  private readonly identity: TableIdentity | undefined;
  private readonly batches: Batches;
  readonly directory: RecordDirectory | undefined;
  private readonly reported = new Set<string>();

  constructor(
    private readonly connection: PostgresConnection,
    { table }: TableNames,
    options: PostgresStoreOptions,
  ) {
    const { retention, cipher = noEncryption, identity } = options;
    this.table = table;
    this.retention = retention;
    this.cipher = cipher;
    this.identity = identity;
    this.directory = options.directory;
    this.batches = new Batches(connection, table, options);
  }

  claim(request: ClaimRequest): Promise<ClaimResult> {
    const { identity } = this;
    if (identity && !identity.tag) return identity.confirmForRequest().then(() => this.claim(request));
    return new Promise((resolve, reject) => {
      const { id, token, fingerprint, lease, durability } = request;
      const item = {
        id: hashOf(id.hash),
        token,
        fingerprint: hashOf(fingerprint),
        lease,
        scope: printable(id.scope),
        key: printable(id.key),
      };
      const decided = (standing: ClaimRow | undefined): void => {
        const claim = standing && claimIn(request, standing);
        resolve(claim ? { claimed: true, claim } : this.claimStanding(request, standing));
      };
      this.batches.claim(item, durability, decided, reject);
    });
  }

  private async claimStanding(request: ClaimRequest, standing: ClaimRow | undefined): Promise<ClaimResult> {
    const progress = { mayHold: false };
    try {
      return await this.answerOrRetake(this.connection.operation('claim'), request, standing, progress);
    } catch (error) {
      if (!(error instanceof StoreUnavailableError) || error.sent || !progress.mayHold) throw error;
      if (error instanceof OverloadedError)
        throw new OverloadedError('postgres', 'claim', error.reason, true);
      // The statement that failed was not sent, but one before it was, and may have taken the key.
      throw new StoreUnavailableError('postgres', 'claim', error.cause);
    }
  }

  /** Answers with the record that stands, or takes it over, unless it changes meanwhile. */
  private async answerOrRetake(
    run: Run,
    request: ClaimRequest,
    first: ClaimRow | undefined,
    progress: { mayHold: boolean },
  ): Promise<ClaimResult> {
    let standing = first;
    for (let round = 1; ; round++) {
      // Without one, another claim was committed after our snapshot: now it can be seen; or it is large.
      if (standing?.claimed === null) {
        const record = this.record(request.id, standing);
        progress.mayHold ||=
          record.token === request.token.toLowerCase() || standing.expired || isOrphaned(record);
        const retaken = standing.expired
          ? await this.retake(run, request, record, statements.reclaimExpired)
          : await this.retakeOrphan(run, request, record);
        if (retaken === 'stands')
          return { claimed: false, record: await this.confirmed(run, standing, record) };
        if (retaken !== 'changed') return { claimed: true, claim: retaken };
      }
      if (round === ROUNDS) throw contended('claim');
      standing = await this.claimOrRead(run, request);
      const claim = standing && claimIn(request, standing);
      if (claim) return { claimed: true, claim };
    }
  }

  complete(claim: Claim, outcome: Outcome): Promise<CompleteResult> {
    return new Promise((resolve, reject) => {
      const { token, fence } = claim;
      const id = hashOf(claim.id.hash);
      const [status, tombstone, headers, body] = outcomeValues(this.cipher.encrypt(claim, outcome));
      const item = { id, token, fence, status, tombstone, headers, body };
      const decided = (recorded: boolean): void =>
        resolve(recorded ? { recorded } : this.completeStanding(claim, completeValues(item, this.retention)));
      this.batches.complete(item, decided, reject);
    });
  }

  /** What stands is not the unfinished claim, or another transaction has locked it. */
  private async completeStanding(claim: Claim, values: readonly unknown[]): Promise<CompleteResult> {
    const run = this.connection.operation('complete');
    const id = values[0];
    for (let round = 1; ; round++) {
      const [row] = await run<RecordRow>(statements.read(this.table), [id]);
      if (row && !row.expired) {
        const record = await this.confirmed(run, row, this.record(claim.id, row));
        if (!isOfClaim(record, claim)) return { recorded: false, record };
        if (record.state === 'completed') return { recorded: true }; // an earlier try landed, its reply was lost
      } else {
        if (row) await run(statements.deleteExpired(this.table), [id]);
        if (await this.insertCompleted(run, claim, values)) return { recorded: true };
      }
      if (round === ROUNDS) throw contended('complete');
      if ((await run(statements.complete(this.table, { waits: true }), values)).length > 0)
        return { recorded: true };
    }
  }

  release(claim: Claim): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const { token, fence } = claim;
      const id = byteaOf(claim.id.hash);
      if (fence === 0) return resolve(this.changes('release', statements.abandon(this.table), [id, token]));
      const decided = (released: boolean): void => {
        const waiting = statements.release(this.table, { waits: true });
        resolve(released || this.changes('release', waiting, [id, token, fence]));
      };
      this.batches.release({ id: claim.id.hash, token, fence }, decided, reject);
    });
  }

  /** Whether the statement has found a row to change. */
  private async changes(name: string, text: string, values: readonly unknown[]): Promise<boolean> {
    return (await this.connection.operation(name)(text, values)).length > 0;
  }

  async renew(claims: readonly Claim[], lease: number): Promise<ReadonlySet<string>> {
    return this.renewed(this.connection.operation('renew'), claims, lease);
  }

  async find(id: RecordId): Promise<IdempotencyRecord | undefined> {
    if (this.identity && !this.identity.tag) await this.identity.confirmForRequest();
    const row = await new Promise<RecordRow | undefined>((resolve, reject) =>
      this.batches.read(hashOf(id.hash), resolve, reject),
    );
    if (!row || row.expired) return undefined;
    return this.confirmed(this.connection.operation('find'), row, this.record(id, row));
  }

  async forget(claim: Claim): Promise<boolean> {
    return (await this.forgetAll([claim])).tokens.size > 0;
  }

  forgetAll(claims: readonly Claim[]): ReturnType<typeof forgetAll> {
    return forgetAll(this.connection, this.table, claims, this.retention);
  }

  isForgotten(claim: Claim): Promise<boolean> {
    return isForgotten(this.connection, this.table, claim);
  }

  private async claimOrRead(run: Run, request: ClaimRequest): Promise<ClaimRow | undefined> {
    const { id, durability } = request;
    const [row] = await run<ClaimRow>(statements.claimOrRead(this.table, durability), [
      ...this.claimValues(request),
      printable(id.scope),
      printable(id.key),
    ]);
    return row;
  }

  private async retakeOrphan(run: Run, request: ClaimRequest, record: IdempotencyRecord): Promise<Retaken> {
    if (record.state !== 'in_progress') return 'stands';
    if (record.token === request.token.toLowerCase()) return this.resume(run, request, record);
    const takes =
      request.takeOver && record.leaseRemaining <= 0 && record.fingerprint === request.fingerprint;
    return takes ? this.retake(run, request, record, statements.takeOver) : 'stands';
  }

  /** An earlier try of this very claim landed, and its reply was lost. Its lease starts anew, as the caller's does. */
  private async resume(run: Run, request: ClaimRequest, record: IdempotencyRecord): Promise<Retaken> {
    const held = await this.renewed(run, [record], request.lease);
    return held.has(record.token) ? claimOf(record.id, record) : 'changed';
  }

  private async retake(
    run: Run,
    request: ClaimRequest,
    seen: IdempotencyRecord,
    statement: typeof statements.takeOver,
  ): Promise<Retaken> {
    const [row] = await run<Pick<Claim, 'fence' | 'attempt'>>(statement(this.table, request.durability), [
      ...this.claimValues(request),
      seen.token,
      seen.fence,
    ]);
    return row ? claimOf(request.id, { ...request, ...row }) : 'changed';
  }

  /** @throws ForgottenRecordError if an operator has deleted the record */
  private async insertCompleted(run: Run, claim: Claim, outcome: readonly unknown[]): Promise<boolean> {
    const { id, fingerprint, attempt } = claim;
    const values = [...outcome, byteaOf(fingerprint), attempt, printable(id.scope), printable(id.key)];
    const [row] = await run<{ recorded: boolean }>(statements.insertCompleted(this.table), values);
    if (row?.recorded === false) throw new ForgottenRecordError();
    return row !== undefined;
  }

  private async renewed(run: Run, claims: readonly Claim[], lease: number): Promise<Set<string>> {
    if (claims.length === 0) return new Set();
    const rows = await run<{ token: string }>(statements.renew(this.table), [
      claims.map((claim) => byteaOf(claim.id.hash)),
      claims.map((claim) => claim.token),
      claims.map((claim) => claim.fence),
      lease,
    ]);
    const held = new Set(rows.map((row) => row.token));
    return new Set(claims.map((claim) => claim.token).filter((token) => held.has(token.toLowerCase())));
  }

  /** An outcome does not count, even for its owner, before a failover to the standby would keep it. */
  private async confirmed(run: Run, row: RecordRow, record: IdempotencyRecord): Promise<IdempotencyRecord> {
    if (record.state !== 'completed' || !row.awaits_standby) return record;
    await run(statements.confirm(), []).catch((error: unknown) => {
      if (!(error instanceof StoreUnavailableError)) throw error;
      throw new StoreUnavailableError('postgres', error.operation, error.cause, false); // there is nothing to give back
    });
    return record;
  }

  private claimValues({ id, token, fingerprint, lease }: ClaimRequest): unknown[] {
    return [byteaOf(id.hash), token, byteaOf(fingerprint), lease, this.retention];
  }

  private record(id: RecordId, row: RecordRow): IdempotencyRecord {
    return recordOf(id, row, this.cipher, (unreadable, problem) => this.reportOnce(unreadable, problem));
  }

  /** Once for each kind of problem. */
  private reportOnce({ hash }: RecordId, problem: string): void {
    if (this.reported.has(problem) || this.reported.size >= MOST_REPORTS) return;
    this.reported.add(problem);
    this.logger.error(
      `The row of ${this.table} with id \\x${hash} cannot be read: ${problem}. Its handler does not run again. ` +
        'Other rows of which this is true are not reported',
    );
  }
}

/** The claim, if one was made. */
function claimIn({ id, fingerprint, token }: ClaimRequest, { claimed }: ClaimRow): Claim | undefined {
  if (claimed === null) return undefined;
  return { id, fingerprint, token: token.toLowerCase(), fence: claimed, attempt: 1 };
}

/** The claim; `stands` if the record may not be taken, `changed` if it was changed since it was read. */
type Retaken = Claim | 'stands' | 'changed';

function contended(operation: string): StoreUnavailableError {
  const reason = new Error(`the record changed ${ROUNDS} times meanwhile`);
  return new StoreUnavailableError('postgres', operation, reason);
}
