import { performance } from 'node:perf_hooks';
import type { RequestObserver, RequestOutcome } from './ports';
import { ClientLeftError, isIdempotencyError } from './errors';
import { Executions, isRight } from './executions';
import { InFlightRequests, type InFlightRequest, type InFlightResult } from './in-flight-requests';
import { LeaseManager } from './lease';
import type { TransactionStore } from './transaction';
import { Polls } from './poll';
import { isOrphaned, type CompletedRecord, type InProgressRecord } from './record';
import { inFlight, mismatch, outcomeUnknown } from './refusals';
import { settledWithin } from './settled-within';
import type { IdempotencyStore } from './store';
import { WaitingRoom, type WaitingBounds, type WaitOptions } from './waiting-room';
import { replay, type ProtectedRequest, type RunResult, type Work } from './work';

const OPEN: InFlightResult = { kind: 'open' };

/**
 * The idempotency protocol: one execution per key, and its recorded outcome for everyone who asks again.
 * It knows no HTTP and no store, only the store's contract.
 */
export class Protocol {
  /** Requests that were answered since the start, by a handler or by a record. */
  readonly traffic = { executed: 0, replayed: 0 };
  private readonly inFlight = new InFlightRequests();
  private readonly leases: LeaseManager;
  private readonly executions: Executions;
  private readonly polls: Polls;
  private readonly room: WaitingRoom;
  /** Requests that are not answered yet. */
  private active = 0;
  private onIdle: (() => void) | undefined;
  private readonly closing = new AbortController();

  constructor(
    store: IdempotencyStore,
    private readonly observer: RequestObserver,
    bounds: WaitingBounds,
    transactions?: TransactionStore,
  ) {
    this.leases = new LeaseManager(store);
    this.polls = new Polls(store, transactions, this.closing.signal);
    this.room = new WaitingRoom(bounds, observer);
    this.executions = new Executions(
      store,
      observer,
      this.leases,
      this.waitForWinner.bind(this),
      transactions,
    );
  }

  /**
   * Answers a request: runs `work` if this request wins the key's claim, else gives the recorded outcome.
   * @throws IdempotencyError if neither is possible; the errors of `work`, after the key was released;
   * ClientLeftError if its client left while it waited
   */
  async run(request: ProtectedRequest, work: Work): Promise<RunResult> {
    const { policy } = request;
    const deadline = performance.now() + policy.waitTimeout;
    this.active += 1;
    try {
      let result: RunResult | undefined;
      // A hint in Redis may outlive its claim, so it is not a ground to refuse a request, nor to wait twice.
      for (let bypassCache = policy.inFlight === 'reject'; !result; bypassCache = true) {
        const found = await this.joinOrLead(request, work, bypassCache, deadline);
        result = isAnswer(found) ? found : await this.answerFrom(found, request, deadline);
      }
      this.traffic[result.kind] += 1;
      this.observer.ended(request, outcomeOf(result), result.kind === 'replayed' ? result.tier : undefined);
      return result;
    } catch (error) {
      if (error instanceof ClientLeftError) this.observer.ended(request, 'client_left');
      else this.observer.ended(request, isIdempotencyError(error) ? error.code : 'failed');
      throw error;
    } finally {
      this.active -= 1;
      if (this.active === 0) this.onIdle?.();
    }
  }

  /** True once the application is being shut down. */
  get stopping(): boolean {
    return this.closing.signal.aborted;
  }

  /** From now on a request that waits for another process's outcome is told to retry later instead. */
  stopWaiting(): void {
    this.closing.abort();
  }

  /** Waits until the requests under way are answered, or `timeout` ms have passed, then ends the heartbeats. */
  async drain(timeout: number): Promise<void> {
    if (this.active > 0)
      await settledWithin(new Promise<void>((resolve) => (this.onIdle = resolve)), timeout);
    this.leases.stop();
  }

  /** Follows the request of its key that is under way in this process, or leads: one conversation with the store. */
  private joinOrLead(
    request: ProtectedRequest,
    work: Work,
    bypassCache: boolean,
    deadline: number,
  ): Promise<RunResult | InFlightResult> {
    const other = this.inFlight.get(request.id.hash);
    if (other) return this.follow(other, request, deadline);
    const known = this.knownElsewhere(request);
    return known ? Promise.resolve(known) : this.lead(request, work, bypassCache);
  }

  /** Waits for what the request that leads finds out; under `inFlight: 'wait'` also for its handler. */
  private async follow(
    other: InFlightRequest,
    request: ProtectedRequest,
    deadline: number,
  ): Promise<InFlightResult> {
    const { policy } = request;
    // The store's own time-outs bound this first wait.
    const result = other.result ?? (await this.room.wait(other.followers, request)) ?? OPEN;
    if (result.kind !== 'executing') return result;
    if (result.fingerprint !== request.fingerprint) throw mismatch();
    if (policy.inFlight === 'reject') throw inFlight(policy.lease);
    if (other.result && other.result !== result) return other.result;
    const end = await this.room.wait(other.followers, request, { deadline });
    if (!end) throw inFlight(policy.lease);
    return end;
  }

  /** Another process runs the handler, as a poll of this one knows: what else there is to know has to be asked for. */
  private knownElsewhere({ id, policy, fingerprint }: ProtectedRequest): InFlightResult | undefined {
    const standing = policy.inFlight === 'wait' ? this.polls.get(id.hash)?.standing : undefined;
    if (standing === 'locked') return { kind: 'locked' };
    return standing?.fingerprint === fingerprint ? { kind: 'in progress', record: standing } : undefined;
  }

  private async lead(
    request: ProtectedRequest,
    work: Work,
    bypassCache: boolean,
  ): Promise<RunResult | InFlightResult> {
    const { id, fingerprint, policy } = request;
    const own = this.inFlight.run(id.hash);
    let result: InFlightResult = OPEN;
    try {
      const found = await this.executions.begin(request, bypassCache);
      const outage = found.kind === 'unavailable' && found.isOutage && policy.onOutage === 'execute';
      // What this process knows to be under way elsewhere does not run here without protection.
      const unprotected = outage && !this.polls.get(id.hash);
      if (!isRight(found) && !unprotected) return (result = found);
      own.execute(fingerprint);
      const run = await this.executions.run(request, isRight(found) ? found : undefined, work);
      if (run.outcome) result = { kind: 'outcome', fingerprint, outcome: run.outcome };
      return run;
    } catch (error) {
      if (isIdempotencyError(error) && error.code === 'outcome_not_recorded')
        result = { kind: 'not recorded', error };
      throw error;
    } finally {
      this.inFlight.settle(id.hash, own, result);
    }
  }

  /** What a request makes of what was found out, by its own fingerprint and policy; undefined if it has to try itself. */
  private async answerFrom(
    result: InFlightResult,
    request: ProtectedRequest,
    deadline: number,
  ): Promise<RunResult | undefined> {
    const { id, policy } = request;
    switch (result.kind) {
      case 'outcome':
        if (result.fingerprint !== request.fingerprint) throw mismatch();
        return { kind: 'replayed', outcome: result.outcome };
      case 'completed':
        if (result.record.fingerprint !== request.fingerprint) throw mismatch();
        return replay(result.record);
      case 'in progress': {
        const { record, isHint } = result;
        const waits = policy.inFlight === 'wait' && record.fingerprint === request.fingerprint;
        return isHint && !waits ? undefined : this.waitElsewhere(record, request, deadline);
      }
      case 'unavailable': {
        if (result.shed) this.observer.shed(request, result.shed);
        if (!result.isOutage || policy.onOutage === 'reject') throw result.error;
        const known = this.polls.get(id.hash)?.standing;
        return known && known !== 'locked' ? this.waitElsewhere(known, request, deadline) : undefined;
      }
      case 'locked': {
        const refusal = inFlight(policy.transaction ? policy.transaction.timeout : policy.lease);
        if (policy.inFlight === 'reject' || this.mayNotWait(deadline)) throw refusal;
        const end = await this.room.wait(this.polls.of(id, 'locked').waiters, request, { deadline });
        if (!end) throw refusal;
        return this.answerFrom(end, request, deadline);
      }
      case 'not recorded':
      case 'failed':
        throw result.error;
      case 'open':
      case 'executing':
        if (this.mayNotWait(deadline)) throw inFlight(policy.lease);
        return undefined;
    }
  }

  /** Another process holds the claim, or held it until its lease lapsed. */
  private async waitElsewhere(
    record: InProgressRecord,
    request: ProtectedRequest,
    deadline: number,
  ): Promise<RunResult | undefined> {
    const { policy } = request;
    if (record.fingerprint !== request.fingerprint) throw mismatch();
    if (isOrphaned(record)) {
      if (policy.onOrphan === 'reject') throw outcomeUnknown();
      if (this.mayNotWait(deadline)) throw inFlight(policy.lease, record);
      return undefined;
    }
    if (policy.inFlight === 'reject' || this.mayNotWait(deadline)) throw inFlight(policy.lease, record);
    const result = await this.pollForOutcome(record, request, { deadline });
    if (!result) throw inFlight(policy.lease, record);
    return this.answerFrom(result, request, deadline);
  }

  /** Undefined at the deadline. */
  private pollForOutcome(
    record: InProgressRecord,
    request: ProtectedRequest,
    options: WaitOptions,
  ): Promise<InFlightResult | undefined> {
    return this.room.wait(this.polls.of(request.id, record).waiters, request, options);
  }

  /** The request has run its handler, but its claim was lost. */
  private async waitForWinner(
    record: InProgressRecord,
    request: ProtectedRequest,
  ): Promise<CompletedRecord | undefined> {
    const deadline = performance.now() + request.policy.waitTimeout;
    const result = await this.pollForOutcome(record, request, { deadline, exempt: true });
    return result?.kind === 'completed' ? result.record : undefined;
  }

  private mayNotWait(deadline: number): boolean {
    return performance.now() >= deadline || this.closing.signal.aborted;
  }
}

function isAnswer(found: RunResult | InFlightResult): found is RunResult {
  return found.kind === 'executed' || found.kind === 'replayed';
}

function outcomeOf(result: RunResult): RequestOutcome {
  if (result.kind === 'replayed') {
    if (result.outcome.kind !== 'response') return 'outcome_not_stored';
    return result.legacy ? 'replayed_legacy' : 'replayed';
  }
  if (result.recorded) return 'executed';
  return result.outcome ? 'unprotected' : 'released';
}
