import { z } from 'zod';
import type { Claim, IdempotencyRecord, Outcome, RecordId } from '../../core/record';

/**
 * What a value says of its key. For one fence, a greater rank is a later state, so that a late write can be told from
 * a newer one by two numbers. `pending`: completed, but not yet in Postgres. `removed`: reads as absent.
 */
export const RANK = { in_progress: 0, pending: 1, completed: 2, removed: 3 } as const;

interface Times {
  /** Milliseconds by Redis' clock; 0 unless the claim is in progress. */
  readonly leaseUntil: number;
  /** Milliseconds by Redis' clock, when Redis drops the value. */
  readonly expiresAt: number;
}

/** A value as it was read. */
export type StoredValue =
  | { readonly kind: 'removed' }
  | (Claim & Times & { readonly kind: 'in_progress' })
  | (Claim & Times & { readonly kind: 'completed'; readonly pending: boolean; readonly outcome: Outcome });

/** A value under our prefix that this module did not write, or that a later version of it wrote. */
export class ForeignValueError extends Error {
  constructor() {
    super('the value in Redis was not written by this version of the module');
    this.name = 'ForeignValueError';
  }
}

const VERSION = 1;

/** `rank:fence:attempt:leaseUntil:expiresAt`. Later versions keep it, so that old and new ones can compare values. */
const HEAD = /^([0-3]):(\d{1,16}):(\d{1,9}):(\d{1,16}):(\d{1,16})$/;
const LONGEST_HEAD = 64;

const claimMeta = z.object({ v: z.literal(VERSION), token: z.string(), fingerprint: z.string() });
const responseMeta = claimMeta.extend({
  status: z.int(),
  headers: z.array(z.tuple([z.string(), z.union([z.string(), z.array(z.string())])])),
});
const tombstoneMeta = claimMeta.extend({ status: z.int(), tombstone: z.enum(['too_large', 'unstorable']) });
const completedMeta = z.union([tombstoneMeta, responseMeta]);

/**
 * A value is one string, so that a replay is one GET: a head (numbers, which the scripts write and compare), a line of
 * JSON, and the bytes of the body as they are. This is what follows the head.
 */
export function encodeRest(
  { token, fingerprint }: Pick<Claim, 'token' | 'fingerprint'>,
  outcome?: Outcome,
): Buffer {
  const line = JSON.stringify({ v: VERSION, token, fingerprint, ...outcomeMeta(outcome) });
  const head = Buffer.from(`${line}\n`);
  return outcome?.kind === 'response' ? Buffer.concat([head, outcome.body]) : head;
}

/** @throws ForeignValueError unless every part of the value is as this version writes it */
export function decode(id: RecordId, value: Buffer): StoredValue {
  const headEnd = value.subarray(0, LONGEST_HEAD + 1).indexOf('\n');
  const head = HEAD.exec(value.toString('latin1', 0, Math.max(headEnd, 0)));
  if (!head) throw new ForeignValueError();
  const [rank, fence, attempt, leaseUntil, expiresAt] = head.slice(1).map(Number) as [number, ...NumberTuple];
  if (![fence, leaseUntil, expiresAt].every(Number.isSafeInteger)) throw new ForeignValueError();
  if (rank === RANK.removed) return { kind: 'removed' };

  const lineEnd = value.indexOf('\n', headEnd + 1);
  const meta = parseJson(value.toString('utf8', headEnd + 1, Math.max(lineEnd, 0)));
  const rest = value.subarray(lineEnd + 1);
  if (rank === RANK.in_progress) {
    const { token, fingerprint } = strict(claimMeta, meta);
    if (rest.length > 0) throw new ForeignValueError();
    return { kind: 'in_progress', id, token, fingerprint, fence, attempt, leaseUntil, expiresAt };
  }
  const completed = strict(completedMeta, meta);
  const { token, fingerprint, status } = completed;
  const outcome: Outcome =
    'tombstone' in completed
      ? { kind: 'tombstone', status, reason: completed.tombstone }
      : { kind: 'response', status, headers: completed.headers, body: rest };
  const pending = rank === RANK.pending;
  return {
    kind: 'completed',
    id,
    token,
    fingerprint,
    fence,
    attempt,
    leaseUntil,
    expiresAt,
    pending,
    outcome,
  };
}

/** @param now milliseconds by Redis' clock */
export function toRecord(value: StoredValue, now: number): IdempotencyRecord | undefined {
  switch (value.kind) {
    case 'removed':
      return undefined;
    case 'in_progress':
      return {
        ...claimOf(value),
        state: 'in_progress',
        leaseRemaining: value.leaseUntil - now,
        tier: 'redis',
      };
    case 'completed': {
      const { outcome, pending, expiresAt } = value;
      const expiresIn = Math.max(0, expiresAt - now);
      return { ...claimOf(value), state: 'completed', outcome, expiresIn, pending, tier: 'redis' };
    }
  }
}

type NumberTuple = [fence: number, attempt: number, leaseUntil: number, expiresAt: number];

function claimOf({ id, fingerprint, token, fence, attempt }: Claim): Claim {
  return { id, fingerprint, token, fence, attempt };
}

function outcomeMeta(outcome: Outcome | undefined): object | undefined {
  if (!outcome) return undefined;
  const { status } = outcome;
  return outcome.kind === 'tombstone'
    ? { status, tombstone: outcome.reason }
    : { status, headers: outcome.headers };
}

function strict<T>(schema: z.ZodType<T>, json: unknown): T {
  const parsed = schema.safeParse(json);
  if (!parsed.success) throw new ForeignValueError();
  return parsed.data;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
