import type { Claim, Tier } from '../core/record';
import type { ObservedRequest, Orphan, RequestObserver, RequestOutcome, ShedReason } from '../core/ports';

/** Tells each of several observers, of which each listens to what it has use for. */
export class RequestObservers implements RequestObserver {
  constructor(private readonly observers: readonly Partial<RequestObserver>[]) {}

  claimed(request: ObservedRequest, claim: Claim): void {
    for (const each of this.observers) each.claimed?.(request, claim);
  }

  firstRequest(): void {
    for (const each of this.observers) each.firstRequest?.();
  }

  inFlight(change: 1 | -1): void {
    for (const each of this.observers) each.inFlight?.(change);
  }

  leaseLost(): void {
    for (const each of this.observers) each.leaseLost?.();
  }

  shed(request: ObservedRequest, reason: ShedReason): void {
    for (const each of this.observers) each.shed?.(request, reason);
  }

  waiting(requests: number, bytes: number): void {
    for (const each of this.observers) each.waiting?.(requests, bytes);
  }

  ended(request: ObservedRequest, outcome: RequestOutcome, tier?: Tier): void {
    for (const each of this.observers) each.ended?.(request, outcome, tier);
  }

  orphaned(orphan: Orphan): void {
    for (const each of this.observers) each.orphaned?.(orphan);
  }
}
