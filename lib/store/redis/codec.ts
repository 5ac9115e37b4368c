import { z } from 'zod';
import type { Claim, IdempotencyRecord, Outcome, RecordId } from '../../core/record';

/**
 * What a Redis value says of a key. For one fence, a greater rank is a later state, so that scripts can tell a late
 * write from a newer one without parsing more than the head.
 */
export const RANK = { in_progress: 0, pending: 1, completed: 2, removed: 3 } as const;

/** A decoded value; `removed` stands for an absent record, and keeps late writes of its claim out. */
export type StoredValue =
  | (Claim & { readonly kind: 'in_progress'; readonly leaseUntil: number })
  | (Claim & { readonly kind: 'completed'; readonly pending: boolean; readonly outcome: Outcome })
  | { readonly kind: 'removed' };

/** The value is not one of ours, or of a version that this one cannot read. */
export class ForeignValueError extends Error {
  constructor() {
    super('a Redis value under the module’s prefix was not written by this module');
    this.name = 'ForeignValueError';
  }
}

const claimMeta = z.object({ token: z.string(), fingerprint: z.string(), attempt: z.int().positive() });
const completedMeta = claimMeta.extend({
  status: z.int(),
  headers: z.array(z.tuple([z.string(), z.union([z.string(), z.array(z.string())])])).optional(),
  tombstone: z.enum(['too_large', 'unstorable']).optional(),
});

const HEAD = /^([0-3]):(\d{1,16}):(\d{1,16})$/;

/**
 * A value is one string, so that a replay is one GET: a head (`rank:fence:leaseUntil`, by Redis' clock in ms), a line
 * of JSON, and the body's bytes as they are. The scripts write the head; this is what follows it.
 */
export function encodeRest(claim: Claim, outcome?: Outcome): Buffer {
  const meta: Record<string, unknown> = {
    token: claim.token,
    fingerprint: claim.fingerprint,
    attempt: claim.attempt,
    status: outcome?.status,
    headers: outcome?.kind === 'response' ? outcome.headers : undefined,
    tombstone: outcome?.kind === 'tombstone' ? outcome.reason : undefined,
  };
  const line = Buffer.from(`${JSON.stringify(meta)}\n`);
  return outcome?.kind === 'response' ? Buffer.concat([line, outcome.body]) : line;
}

/** @throws ForeignValueError */
export function decode(id: RecordId, value: Buffer): StoredValue {
  const headEnd = value.indexOf('\n');
  const head = HEAD.exec(value.toString('latin1', 0, Math.min(Math.max(headEnd, 0), 64)));
  if (!head) throw new ForeignValueError();
  const rank = Number(head[1]);
  if (rank === RANK.removed) return { kind: 'removed' };

  const lineEnd = value.indexOf('\n', headEnd + 1);
  const json = parseJson(value.toString('utf8', headEnd + 1, Math.max(lineEnd, 0)));
  const claim = claimMeta.safeParse(json);
  if (!claim.success) throw new ForeignValueError();
  const base = { id, fence: Number(head[2]), ...claim.data };
  if (rank === RANK.in_progress) return { ...base, kind: 'in_progress', leaseUntil: Number(head[3]) };

  const meta = completedMeta.safeParse(json);
  if (!meta.success) throw new ForeignValueError();
  const { status, headers, tombstone } = meta.data;
  const outcome: Outcome = tombstone
    ? { kind: 'tombstone', status, reason: tombstone }
    : { kind: 'response', status, headers: headers ?? [], body: value.subarray(lineEnd + 1) };
  return { ...base, kind: 'completed', pending: rank === RANK.pending, outcome };
}

/** @param now Redis' clock in ms, for a record in progress; `expiresIn` of a finished one is at most `ttl` */
export function toRecord(value: StoredValue, now: number, ttl: number): IdempotencyRecord | undefined {
  switch (value.kind) {
    case 'removed':
      return undefined;
    case 'in_progress': {
      const { kind, leaseUntil, ...claim } = value;
      return { ...claim, state: kind, leaseRemaining: leaseUntil - now, tier: 'redis' };
    }
    case 'completed': {
      const { kind, ...rest } = value;
      return { ...rest, state: kind, expiresIn: ttl, tier: 'redis' };
    }
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
