import { channel, type Channel } from 'node:diagnostics_channel';
import type { IdempotencyErrorCode } from '../core/errors';
import type { ObservedRequest, Orphan, RequestObserver, RequestOutcome, ShedReason } from '../core/ports';
import type { Tier } from '../core/record';

/** What every message about a request has. */
export interface RequestMessage {
  /** Names the record in both stores; undefined if the request has no valid key. */
  readonly hash: string | undefined;
  /** Method and pattern, such as `POST /leads/:id`; undefined for work of `IdempotencyService.execute()`. */
  readonly route: string | undefined;
}

export interface ClaimMessage extends RequestMessage {
  /** 1 at first, one more each time the claim of an owner that is lost was taken over. */
  readonly attempt: number;
  readonly fence: number;
}

export interface ReplayMessage extends RequestMessage {
  /** Where the response was read. `process`: another request of this process had it. `legacy`: an earlier system. */
  readonly source: Tier | 'process' | 'legacy';
  /** Milliseconds that the request has waited for another one of its key. */
  readonly waited: number;
}

export interface RefusalMessage extends RequestMessage {
  readonly code: IdempotencyErrorCode;
  /** Milliseconds that the request has waited for another one of its key. */
  readonly waited: number;
}

export interface ShedMessage extends RequestMessage {
  /** What was full. */
  readonly reason: ShedReason;
}

/** A claim whose owner is lost. */
export type OrphanMessage = Orphan;

/** The channels of `node:diagnostics_channel`, with what each of them carries. */
export interface IdempotencyChannels {
  /** A request has its key: its handler is about to run. */
  'nestjs-idempotency:claimed': ClaimMessage;
  /** As `claimed`, which comes as well, of a key whose owner was lost. */
  'nestjs-idempotency:taken-over': ClaimMessage;
  /** A request got a recorded response. */
  'nestjs-idempotency:replayed': ReplayMessage;
  /** A request got neither a handler nor a response. */
  'nestjs-idempotency:refused': RefusalMessage;
  /** A request was turned away because too many wait. `refused` follows. */
  'nestjs-idempotency:shed': ShedMessage;
  /** The owner of a claim is lost. One of the processes that share the table says so, once. */
  'nestjs-idempotency:orphaned': OrphanMessage;
}

const open = (name: keyof IdempotencyChannels): Channel => channel(name);

const CLAIMED = open('nestjs-idempotency:claimed');
const TAKEN_OVER = open('nestjs-idempotency:taken-over');
const REPLAYED = open('nestjs-idempotency:replayed');
const REFUSED = open('nestjs-idempotency:refused');
const SHED = open('nestjs-idempotency:shed');
const ORPHANED = open('nestjs-idempotency:orphaned');

type Refusal = Extract<RequestOutcome, IdempotencyErrorCode>;

const NO_REFUSALS: Readonly<Partial<Record<RequestOutcome, true>>> = {
  executed: true,
  released: true,
  replayed: true,
  replayed_legacy: true,
  unprotected: true,
  client_left: true,
  failed: true,
} satisfies Record<Exclude<RequestOutcome, Refusal>, true>;

function isRefusal(outcome: RequestOutcome): outcome is Refusal {
  return !NO_REFUSALS[outcome];
}

/** Publishes what becomes of requests. Nothing is made for a channel without subscribers. */
export const channelObserver: Partial<RequestObserver> = {
  claimed(request, { attempt, fence }) {
    const takenOver = attempt > 1 && TAKEN_OVER.hasSubscribers;
    if (!CLAIMED.hasSubscribers && !takenOver) return;
    const message: ClaimMessage = { ...nameOf(request), attempt, fence };
    CLAIMED.publish(message);
    if (takenOver) TAKEN_OVER.publish(message);
  },

  ended(request, outcome, tier) {
    if (outcome === 'replayed' || outcome === 'replayed_legacy') {
      if (!REPLAYED.hasSubscribers) return;
      const source = outcome === 'replayed' ? (tier ?? 'process') : 'legacy';
      REPLAYED.publish({ ...endOf(request), source } satisfies ReplayMessage);
    } else if (REFUSED.hasSubscribers && isRefusal(outcome))
      REFUSED.publish({ ...endOf(request), code: outcome } satisfies RefusalMessage);
  },

  shed(request, reason) {
    if (SHED.hasSubscribers) SHED.publish({ ...nameOf(request), reason } satisfies ShedMessage);
  },

  orphaned(orphan) {
    if (ORPHANED.hasSubscribers) ORPHANED.publish({ ...orphan } satisfies OrphanMessage);
  },
};

function nameOf({ id, routePattern }: ObservedRequest): RequestMessage {
  return { hash: id?.hash, route: routePattern };
}

function endOf(request: ObservedRequest): RequestMessage & { readonly waited: number } {
  return { ...nameOf(request), waited: request.waited ?? 0 };
}
