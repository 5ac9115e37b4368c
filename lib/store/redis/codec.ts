import type { Claim, IdempotencyRecord, Outcome, RecordId, StoredOutcome } from '../../core/record';
import { noEncryption, type OutcomeCipher } from '../../outcome/outcome-cipher';
import {
  MalformedOutcomeError,
  membersOf,
  outcomeOf,
  type OutcomeMembers,
} from '../../outcome/stored-outcome';

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
const NEWLINE = 0x0a;

/** `rank:fence:attempt:leaseUntil:expiresAt`. Later versions keep it, so that old and new ones can compare values. */
const HEAD = /^([0-3]):(\d{1,16}):(\d{1,9}):(\d{1,16}):(\d{1,16})$/;
const LONGEST_HEAD = 64;

const TOKEN = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const FINGERPRINT = /^[0-9a-f]{64}$/;

/** The line of JSON, of which an outcome has more. */
interface Meta extends Partial<Record<'status' | 'tombstone' | 'headers', unknown>> {
  readonly v: number;
  readonly token: string;
  readonly fingerprint: string;
}

/**
 * A value is one string, so that a replay is one read: a head (numbers, which the scripts write and compare), a line of
 * JSON, and the bytes of the body as they are. This is what follows the head.
 */
export function encodeRest(
  { token, fingerprint }: Pick<Claim, 'token' | 'fingerprint'>,
  outcome?: StoredOutcome,
): Buffer {
  const members = outcome && membersOf(outcome);
  const line = lineOf(token, fingerprint, members);
  const body = members?.body;
  if (!body) return withheld(Buffer.from(`${line}\n`));
  const start = Buffer.byteLength(line) + 1;
  const bytes = Buffer.allocUnsafe(start + body.length);
  bytes.write(line);
  bytes[start - 1] = NEWLINE;
  bytes.set(body, start);
  return withheld(bytes);
}

/** Each form in one literal, as V8 takes long for a spread with members before it. */
function lineOf(token: string, fingerprint: string, members: OutcomeMembers | undefined): string {
  const v = VERSION;
  if (!members) return JSON.stringify({ v, token, fingerprint });
  const { status, tombstone, headers } = members;
  return tombstone === null
    ? JSON.stringify({ v, token, fingerprint, status, headers })
    : JSON.stringify({ v, token, fingerprint, status, tombstone });
}

/**
 * Tracing of ioredis exports the arguments of scripts as text: of a response it gets its size alone. The bytes that are
 * sent are not affected.
 */
function withheld(bytes: Buffer): Buffer {
  bytes.toString = sizeOf;
  return bytes;
}

function sizeOf(this: Buffer): string {
  return `[${this.length} bytes]`;
}

/**
 * @throws ForeignValueError unless every part of the value is as this version writes it
 * @throws SealError if its outcome cannot be opened
 */
export function decode(id: RecordId, value: Buffer, cipher: OutcomeCipher = noEncryption): StoredValue {
  const headEnd = value.subarray(0, LONGEST_HEAD + 1).indexOf('\n');
  const head = HEAD.exec(value.toString('latin1', 0, Math.max(headEnd, 0)));
  if (!head) throw new ForeignValueError();
  const [rank, fence, attempt, leaseUntil, expiresAt] = head.slice(1).map(Number) as [number, ...NumberTuple];
  if (![fence, leaseUntil, expiresAt].every(Number.isSafeInteger)) throw new ForeignValueError();
  if (rank === RANK.removed) return { kind: 'removed' };
  if (fence === 0 || attempt === 0) throw new ForeignValueError();

  const lineEnd = value.indexOf('\n', headEnd + 1);
  const line = value.toString('utf8', headEnd + 1, Math.max(lineEnd, 0));
  const rest = value.subarray(lineEnd + 1);
  if (rank === RANK.in_progress) {
    const { token, fingerprint } = metaOf(line, []);
    if (rest.length > 0) throw new ForeignValueError();
    return { kind: 'in_progress', id, token, fingerprint, fence, attempt, leaseUntil, expiresAt };
  }
  const completed = metaOf(line, ['status', 'tombstone', 'headers']);
  const { token, fingerprint } = completed;
  const claim = { id, token, fingerprint, fence, attempt };
  const outcome = opened(cipher, claim, completed, rest);
  const pending = rank === RANK.pending;
  // Spelt out, here and below: V8 takes 3 µs for a spread with members after it.
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
      const { id, fingerprint, token, fence, attempt, outcome, pending, expiresAt } = value;
      const expiresIn = Math.max(0, expiresAt - now);
      return {
        id,
        fingerprint,
        token,
        fence,
        attempt,
        state: 'completed',
        outcome,
        expiresIn,
        pending,
        tier: 'redis',
      };
    }
  }
}

type NumberTuple = [fence: number, attempt: number, leaseUntil: number, expiresAt: number];

function claimOf({ id, fingerprint, token, fence, attempt }: Claim): Claim {
  return { id, fingerprint, token, fence, attempt };
}

function opened(
  cipher: OutcomeCipher,
  claim: Claim,
  { status, tombstone = null, headers = null }: Meta,
  body: Buffer,
): Outcome {
  try {
    return cipher.decrypt(claim, outcomeOf({ status, tombstone, headers, body }));
  } catch (error) {
    if (error instanceof MalformedOutcomeError) throw new ForeignValueError();
    throw error;
  }
}

/**
 * Nothing but what we write: a token or fingerprint of another form would fail in Postgres, on its way there. By hand, as
 * a schema takes longer for it than JSON takes to parse.
 */
function metaOf(line: string, more: readonly string[]): Meta {
  const meta = parseJson(line) as Partial<Meta> | null | undefined;
  if (typeof meta !== 'object' || meta === null) throw new ForeignValueError();
  const { v, token, fingerprint } = meta;
  if (v !== VERSION || !isLike(TOKEN, token) || !isLike(FINGERPRINT, fingerprint))
    throw new ForeignValueError();
  for (const name in meta) if (!MEMBERS.has(name) && !more.includes(name)) throw new ForeignValueError();
  return meta as Meta;
}

const MEMBERS = new Set(['v', 'token', 'fingerprint']);

function isLike(pattern: RegExp, text: unknown): boolean {
  return typeof text === 'string' && pattern.test(text);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
