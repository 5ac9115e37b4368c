import type { ShedReason } from './ports';
import type { IdempotencyError } from './errors';
import type { CompletedRecord, InProgressRecord, Outcome } from './record';
import { wakeAll, type Place } from './waiting-room';

/** What one request of a key found out, for all requests of this process that met it. Each decides for itself. */
export type InFlightResult =
  /** The key was claimed here, or runs here without protection: its handler is under way. */
  | { readonly kind: 'executing'; readonly fingerprint: string }
  /** The handler that ran here has answered. */
  | { readonly kind: 'outcome'; readonly fingerprint: string; readonly outcome: Outcome }
  | { readonly kind: 'completed'; readonly record: CompletedRecord }
  /** Claimed elsewhere, or orphaned. */
  | { readonly kind: 'in progress'; readonly record: InProgressRecord; readonly isHint?: boolean }
  /** A transaction of another process has the key's lock. */
  | { readonly kind: 'locked' }
  /** The store could not be asked. */
  | {
      readonly kind: 'unavailable';
      readonly error: IdempotencyError;
      /** The store failed on the wire, so a policy may let handlers run anyway. */
      readonly isOutage: boolean;
      /** Set if the request was turned away by a queue of this process. */
      readonly shed: ShedReason | undefined;
    }
  /** The handler that ran here has answered, but no retry can have its answer yet. */
  | { readonly kind: 'not recorded'; readonly error: IdempotencyError }
  /** The store refused the question. */
  | { readonly kind: 'failed'; readonly error: unknown }
  /** Nothing was found out, or the key was released: the next request leads. */
  | { readonly kind: 'open' };

/** A request that asks the store about its key, or runs its handler, for all others of its key in this process. */
export class InFlightRequest {
  private place: Place<InFlightResult> | undefined;
  private latest: InFlightResult | undefined;

  /** Made for the first one: most requests have none. */
  get followers(): Place<InFlightResult> {
    return (this.place ??= new Set());
  }

  /** As it is known now: one that was woken may look after the next event. */
  get result(): InFlightResult | undefined {
    return this.latest;
  }

  /** Its handler runs from now on. */
  execute(fingerprint: string): void {
    this.tell({ kind: 'executing', fingerprint });
  }

  tell(result: InFlightResult): void {
    this.latest = result;
    if (this.place && this.place.size > 0) wakeAll(this.place, result);
  }
}

/** The requests under way in this process, one for each key: all others of that key follow it. */
export class InFlightRequests {
  private readonly underWay = new Map<string, InFlightRequest>();

  get(hash: string): InFlightRequest | undefined {
    return this.underWay.get(hash);
  }

  /** From now on this is the one that others of its key follow. To be called only while there is none. */
  run(hash: string): InFlightRequest {
    const request = new InFlightRequest();
    this.underWay.set(hash, request);
    return request;
  }

  /** The first that is woken by this may lead. */
  settle(hash: string, request: InFlightRequest, result: InFlightResult): void {
    this.underWay.delete(hash);
    request.tell(result);
  }
}
