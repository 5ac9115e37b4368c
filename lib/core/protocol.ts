import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import type { IdempotencyMetrics } from '../observability/metrics';
import type { Policy } from '../options/resolve';
import { contextOf, type IdempotencyContext } from './context';
import { IdempotencyError, isIdempotencyError, StoreUnavailableError, UnreadableRecordError } from './errors';
import { Flights, type Landing } from './flights';
import { LeaseKeeper, type HeldLease } from './lease';
import { isOrphaned, type Claim, type IdempotencyRecord, type Outcome, type RecordId } from './record';
import type { ClaimResult, IdempotencyStore } from './store';

export interface ProtectedRequest {
  readonly id: RecordId;
  readonly fingerprint: string;
  readonly policy: Policy;
}

/** Runs the handler. Its outcome is recorded; without one, the key is given back. */
export type Work = (context: IdempotencyContext) => Promise<Outcome | undefined>;

export type RunResult =
  | { readonly kind: 'executed'; readonly outcome: Outcome | undefined; readonly recorded: boolean }
  | { readonly kind: 'replayed'; readonly outcome: Outcome };

const FIRST_POLL = 25;
const LONGEST_POLL = 500;
const RETRY_AFTER_OUTAGE = 5;

/**
 * The idempotency protocol: one execution per key, and its recorded outcome for everyone who asks again.
 * It knows no HTTP and no store, only the store's contract.
 */
export class Protocol {
  private readonly flights = new Flights();
  private readonly leases: LeaseKeeper;
  private readonly active = new Set<Promise<unknown>>();
  private readonly closing = new AbortController();

  constructor(
    private readonly store: IdempotencyStore,
    private readonly metrics: IdempotencyMetrics,
  ) {
    this.leases = new LeaseKeeper(store);
    setMaxListeners(0, this.closing.signal); // one for each request that waits
  }

  /**
   * Answers a request: runs `work` if this request wins the key's claim, else gives the recorded outcome.
   * @throws IdempotencyError if neither is possible; the errors of `work`, after the key was given back
   */
  async run(request: ProtectedRequest, work: Work): Promise<RunResult> {
    const running = this.answer(request, work);
    this.active.add(running);
    try {
      const result = await running;
      this.count(result);
      return result;
    } catch (error) {
      this.metrics.request(isIdempotencyError(error) ? error.code : 'failed');
      throw error;
    } finally {
      this.active.delete(running);
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
    await settledWithin(Promise.allSettled(this.active), timeout);
    this.leases.stop();
  }

  private async answer(request: ProtectedRequest, work: Work): Promise<RunResult> {
    const { id, fingerprint, policy } = request;
    const deadline = performance.now() + policy.waitTimeout;
    for (;;) {
      const flight = policy.inFlight === 'wait' ? this.flights.get(id.hash) : undefined;
      if (flight?.fingerprint !== fingerprint) {
        return this.flights.lead(id.hash, fingerprint, () => this.ask(request, work, deadline), landingOf);
      }
      const landing = await settledWithin(flight.landed, deadline - performance.now());
      if (!landing) throw inFlight(policy);
      if (landing.kind === 'outcome') return { kind: 'replayed', outcome: landing.outcome };
      if (
        landing.kind === 'failed' &&
        isIdempotencyError(landing.error) &&
        landing.error.code !== 'in_flight'
      ) {
        throw landing.error;
      }
    }
  }

  private async ask(request: ProtectedRequest, work: Work, deadline: number): Promise<RunResult> {
    const { policy } = request;
    // A hint in Redis may outlive its claim, so it is no ground to refuse a request, nor to wait twice.
    for (let fresh = policy.inFlight === 'reject'; ; fresh = true) {
      const claimedAt = performance.now();
      const result = await this.claim(request, fresh);
      if (!result) return this.executeUnprotected(request, work);
      if (result.claimed) {
        if (performance.now() < claimedAt + policy.lease)
          return this.execute(request, result.claim, claimedAt, work);
        // The reply came so late that another request may own the key. No handler ran, but one may have before it.
        await this.giveBack({ ...result.claim, fence: 0 });
        if (performance.now() >= deadline || this.closing.signal.aborted) throw inFlight(policy);
        continue;
      }

      const record = result.record;
      if (record.fingerprint !== request.fingerprint) throw mismatch();
      if (record.state === 'completed') return this.replay(record);
      if (policy.inFlight === 'reject' && !isOrphaned(record)) throw inFlight(policy, record);
      if (isOrphaned(record) && policy.onOrphan === 'reject') throw outcomeUnknown();

      const landed = await this.waitFor(request.id, deadline);
      if (landed?.fingerprint === request.fingerprint) return this.replay(landed);
      if (performance.now() >= deadline || this.closing.signal.aborted) throw inFlight(policy, record);
    }
  }

  /** Undefined if the arbiter cannot be asked and the policy is to run the handler all the same. */
  private async claim(
    { id, fingerprint, policy }: ProtectedRequest,
    fresh: boolean,
  ): Promise<ClaimResult | undefined> {
    try {
      return await this.store.claim({
        id,
        fingerprint,
        token: randomUUID(),
        lease: policy.lease,
        takeOver: policy.onOrphan === 'retry',
        fresh,
        durability: policy.durability,
      });
    } catch (error) {
      if (!(error instanceof StoreUnavailableError)) throw error;
      const outage = !(error instanceof UnreadableRecordError);
      if (outage && policy.onOutage === 'execute') return undefined;
      throw new IdempotencyError(
        'store_unavailable',
        'The idempotency store cannot be reached, so nothing was executed. Retry later with the same key.',
        { retryAfter: RETRY_AFTER_OUTAGE, cause: error },
      );
    }
  }

  private async execute(
    request: ProtectedRequest,
    claim: Claim,
    claimedAt: number,
    work: Work,
  ): Promise<RunResult> {
    this.metrics.firstRequest();
    if (claim.attempt > 1) this.metrics.orphanTakenOver();
    const lease = this.leases.hold(claim, request.policy.lease, claimedAt);
    try {
      const outcome = await this.runWork(claim, work, lease);
      if (outcome) return await this.settle(request, claim, outcome, lease);
      await this.giveBack(claim);
      return { kind: 'executed', outcome, recorded: false };
    } finally {
      lease.drop();
    }
  }

  private async runWork(claim: Claim, work: Work, lease: HeldLease): Promise<Outcome | undefined> {
    try {
      return await work(contextOf(claim, lease));
    } catch (error) {
      await this.giveBack(claim);
      throw error;
    }
  }

  private async executeUnprotected({ id }: ProtectedRequest, work: Work): Promise<RunResult> {
    const signal = new AbortController().signal;
    const outcome = await work({ key: id.key, attempt: 1, fence: 0, signal });
    return { kind: 'executed', outcome, recorded: false };
  }

  private async settle(
    request: ProtectedRequest,
    claim: Claim,
    outcome: Outcome,
    lease: HeldLease,
  ): Promise<RunResult> {
    const heldUntil = (): number => lease.heldUntil;
    const completion = await this.store.complete(claim, outcome, heldUntil).catch((error: unknown) => {
      if (!(error instanceof StoreUnavailableError)) throw error;
      throw new IdempotencyError(
        'outcome_not_recorded',
        'The request was executed, but its outcome could not be recorded yet. Retry later with the same key to get it.',
        { retryAfter: RETRY_AFTER_OUTAGE, cause: error },
      );
    });
    if (completion.recorded) return { kind: 'executed', outcome, recorded: true };

    // The lease lapsed and another request took over: what that one records is what every retry gets.
    this.metrics.leaseLost();
    const { record } = completion;
    const deadline = performance.now() + request.policy.waitTimeout;
    const winner = record.state === 'completed' ? record : await this.waitFor(request.id, deadline);
    if (!winner) throw inFlight(request.policy);
    if (winner.fingerprint !== request.fingerprint) throw mismatch();
    return this.replay(winner);
  }

  private replay(record: IdempotencyRecord & { state: 'completed' }): RunResult {
    if (record.outcome.kind === 'response') this.metrics.replayedFrom(record.tier);
    return { kind: 'replayed', outcome: record.outcome };
  }

  /** Polls while another process runs the handler; undefined once the key may be claimed, or at the deadline. */
  private async waitFor(
    id: RecordId,
    deadline: number,
  ): Promise<(IdempotencyRecord & { state: 'completed' }) | undefined> {
    for (let pause = FIRST_POLL; ; pause = Math.min(pause * 1.5, LONGEST_POLL)) {
      const left = deadline - performance.now();
      if (left <= 0 || this.closing.signal.aborted) return undefined;
      // Jitter keeps the waiting processes from asking in step.
      await this.pause(Math.min(left, pause * (0.5 + Math.random())));
      const record = await this.store.find(id).catch((error: unknown) => {
        if (error instanceof StoreUnavailableError) return 'unknown' as const;
        throw error;
      });
      if (record === 'unknown') continue;
      if (record?.state === 'completed') return record;
      if (!record || isOrphaned(record)) return undefined;
    }
  }

  private async pause(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.closing.signal }).catch(() => undefined);
  }

  private async giveBack(claim: Claim): Promise<void> {
    // A store that cannot be reached keeps the release and tries it again; the caller's answer does not wait for it.
    await this.store.release(claim).catch((error: unknown) => {
      if (!(error instanceof StoreUnavailableError)) throw error;
    });
  }

  private count(result: RunResult): void {
    if (result.kind === 'replayed')
      this.metrics.request(result.outcome.kind === 'response' ? 'replayed' : 'outcome_not_stored');
    else this.metrics.request(result.recorded ? 'executed' : result.outcome ? 'unprotected' : 'released');
  }
}

function landingOf(result: RunResult): Landing {
  return result.outcome ? { kind: 'outcome', outcome: result.outcome } : { kind: 'released' };
}

/** The promise's value, or undefined once `timeout` ms have passed. */
async function settledWithin<T>(promise: Promise<T>, timeout: number): Promise<T | undefined> {
  if (timeout <= 0) return undefined;
  const timer = new AbortController();
  try {
    return await Promise.race([promise, delay(timeout, undefined, { signal: timer.signal })]);
  } finally {
    timer.abort();
  }
}

function inFlight(policy: Policy, record?: IdempotencyRecord): IdempotencyError {
  const leaseRemaining = record?.state === 'in_progress' ? record.leaseRemaining : policy.lease;
  return new IdempotencyError(
    'in_flight',
    'A request with this key is still being processed. Retry later with the same key to get its response.',
    { retryAfter: Math.min(Math.max(1, Math.ceil(leaseRemaining / 1000)), RETRY_AFTER_OUTAGE) },
  );
}

function mismatch(): IdempotencyError {
  return new IdempotencyError(
    'fingerprint_mismatch',
    'This key was used for a different request. Use a new key, or send the first request again unchanged.',
  );
}

function outcomeUnknown(): IdempotencyError {
  return new IdempotencyError(
    'outcome_unknown',
    'A request with this key was interrupted and its outcome is unknown. It is not executed again until an operator has settled it.',
  );
}
