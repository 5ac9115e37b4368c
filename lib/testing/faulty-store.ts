import { randomUUID } from 'node:crypto';
import { ForgottenRecordError, StoreUnavailableError } from '../core/errors';
import type { Claim, IdempotencyRecord, Outcome, RecordId } from '../core/record';
import type { RecordDirectory } from '../core/record-directory';
import type { ClaimRequest, ClaimResult, CompleteResult, IdempotencyStore } from '../core/store';
import type { MemoryStore } from '../store/memory/memory.store';

/** What can go wrong for the next request that claims a key. */
export type RequestFault =
  /** Another process has its key, until its lease lapses. */
  | 'in flight'
  /** Its outcome is recorded, but the reply to that is lost. */
  | 'reply lost'
  /** Its process ends after the handler has run and before the outcome is recorded. Its lease has lapsed. */
  | 'owner crashed';

/** The store in memory, with what goes wrong in front of it. */
export class FaultyStore implements IdempotencyStore {
  private next: RequestFault | undefined;
  private down = false;
  /** By the token of the claim. */
  private readonly crashed = new Set<string>();
  private readonly losing = new Set<string>();
  /** Each claim that was won: a handler has run under it, unless it crashed before. */
  readonly won: Claim[] = [];

  /** Also of records that the test has made unreachable. */
  readonly directory: RecordDirectory;

  constructor(private readonly store: MemoryStore) {
    this.directory = store.directory;
  }

  setNext(fault: RequestFault): void {
    this.next = fault;
  }

  setDown(down: boolean): void {
    this.down = down;
  }

  heal(): void {
    this.next = undefined;
    this.down = false;
    this.crashed.clear();
    this.losing.clear();
  }

  async claim(request: ClaimRequest): Promise<ClaimResult> {
    this.assertUp('claim');
    const fault = this.next;
    if (fault === 'in flight') await this.store.claim({ ...request, token: randomUUID() });
    const result = await this.store.claim(request);
    if (result.claimed || fault === 'in flight') this.next = undefined;
    if (result.claimed) this.won.push(result.claim);
    if (result.claimed && fault === 'owner crashed') this.crashed.add(request.token);
    if (result.claimed && fault === 'reply lost') this.losing.add(request.token);
    return result;
  }

  /**
   * For a request whose crash leaves nothing, not even a claim: it ends here if its owner is to crash.
   * @throws StoreUnavailableError
   */
  crashBeforeClaim(): void {
    if (this.next !== 'owner crashed') return;
    this.next = undefined;
    throw new StoreUnavailableError('store', 'begin', 'the owner has crashed, as the test asked', false);
  }

  async complete(claim: Claim, outcome: Outcome): Promise<CompleteResult> {
    this.assertUp('complete');
    await this.assertAlive(claim);
    const result = await this.store.complete(claim, outcome);
    if (this.losing.delete(claim.token))
      throw new StoreUnavailableError('store', 'complete', 'the reply was lost, as the test asked');
    return result;
  }

  async release(claim: Claim): Promise<boolean> {
    this.assertUp('release');
    await this.assertAlive(claim);
    return this.store.release(claim);
  }

  async renew(claims: readonly Claim[], lease: number): Promise<ReadonlySet<string>> {
    this.assertUp('renew');
    return this.store.renew(
      claims.filter(({ token }) => !this.crashed.has(token)),
      lease,
    );
  }

  async find(id: RecordId): Promise<IdempotencyRecord | undefined> {
    this.assertUp('find');
    return this.store.find(id);
  }

  async forget(claim: Claim): Promise<boolean> {
    this.assertUp('forget');
    return this.store.forget(claim);
  }

  private assertUp(operation: string): void {
    if (this.down) throw new StoreUnavailableError('store', operation, 'the test has taken it down', false);
  }

  /** No error of an outage: what a process that has ended would have written is not tried again. */
  private async assertAlive(claim: Claim): Promise<void> {
    if (!this.crashed.has(claim.token)) return;
    await this.store.renew([claim], 0);
    throw new ForgottenRecordError('The owner of this claim has crashed, as the test asked.');
  }
}
