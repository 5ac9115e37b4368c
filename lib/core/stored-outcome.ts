import { validateHeaderName, validateHeaderValue } from 'node:http';
import type {
  HeaderList,
  ResponseOutcome,
  SealedOutcome,
  StoredOutcome,
  TombstoneOutcome,
  TombstoneReason,
} from './record';

/**
 * Names that belong to one connection or frame its messages (RFC 9110, 7.6.1 and 6.6.2): no stored response has them.
 * Node throws on a response that says `Trailer` and is not sent in chunks.
 */
export const FRAMING_HEADERS: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** Under this name a recorded response keeps a reason phrase of its own; no header can be called so. */
export const REASON = ':reason';

/** An outcome as a store keeps it: the same four members in both, each in the store's own encoding. */
export interface OutcomeMembers {
  readonly status: unknown;
  /** Null unless the outcome is a tombstone. */
  readonly tombstone: unknown;
  /** A list of names and values, or the label of a sealed outcome; null for a tombstone. */
  readonly headers: unknown;
  /** Null or empty for a tombstone. */
  readonly body: Buffer | null;
}

/** What stands in a store is no outcome that this version of the module has written. */
export class MalformedOutcomeError extends Error {
  constructor(readonly problem: string) {
    super(`the stored outcome is malformed: ${problem}`);
    this.name = 'MalformedOutcomeError';
  }
}

/** The members of an outcome that a store writes. */
export function membersOf(outcome: StoredOutcome): OutcomeMembers & {
  readonly status: number;
  readonly tombstone: TombstoneReason | null;
} {
  switch (outcome.kind) {
    case 'tombstone':
      return { status: outcome.status, tombstone: outcome.reason, headers: null, body: null };
    case 'response':
      return { status: outcome.status, tombstone: null, headers: outcome.headers, body: outcome.body };
    case 'sealed':
      return { status: outcome.status, tombstone: null, headers: outcome.label, body: outcome.content };
    default:
      return outcome satisfies never;
  }
}

/**
 * The outcome that a store read. Strict, because a value that was forged or changed by hand must end here, and not in
 * the middle of a replay.
 * @throws MalformedOutcomeError
 */
export function outcomeOf({ status, tombstone, headers, body }: OutcomeMembers): StoredOutcome {
  if (status === null || status === undefined) throw new MalformedOutcomeError('it has no status');
  if (!isStatus(status)) throw new MalformedOutcomeError('its status is none of HTTP');
  if (tombstone !== null) {
    if (tombstone !== 'too_large' && tombstone !== 'unstorable')
      throw new MalformedOutcomeError(`its tombstone is ${JSON.stringify(tombstone)}`);
    if (headers !== null || (body && body.length > 0))
      throw new MalformedOutcomeError('it is a tombstone and has a response');
    return { kind: 'tombstone', status, reason: tombstone };
  }
  if (body === null) throw new MalformedOutcomeError('it has no body');
  const outcome = isLabel(headers)
    ? ({ kind: 'sealed', status, label: headers, content: body } as const)
    : ({ kind: 'response', status, headers: headerList(headers), body } as const);
  const problem = unsendable(outcome.kind === 'sealed' ? { status, headers: [] } : outcome);
  if (problem !== undefined) throw new MalformedOutcomeError(problem);
  return outcome;
}

/** Why Node could not send a response like this; undefined if it can. Every response that is recorded passes. */
export function unsendable({
  status,
  headers,
}: Pick<ResponseOutcome, 'status' | 'headers'>): string | undefined {
  // Below 200 it would be an interim response, after which a client goes on waiting for the final one.
  if (!isStatus(status) || status < 200) return 'its status is none that a response can end with';
  try {
    for (const [name, value] of headers) {
      if (name !== REASON) validateHeaderName(name);
      if (FRAMING_HEADERS.has(name.toLowerCase())) return 'one of its headers belongs to a connection';
      for (const each of typeof value === 'string' ? [value] : value) validateHeaderValue(name, each);
    }
  } catch {
    return 'one of its headers cannot be sent';
  }
  return undefined;
}

/** A tombstone for whatever status a response was left with: it must be storable where nothing else is. */
export function tombstoneFor(status: unknown, reason: TombstoneReason): TombstoneOutcome {
  return { kind: 'tombstone', status: isStatus(status) ? status : 500, reason };
}

/** What Node and the database take for one. */
export function isStatus(status: unknown): status is number {
  return Number.isInteger(status) && (status as number) >= 100 && (status as number) <= 999;
}

function isLabel(headers: unknown): headers is SealedOutcome['label'] {
  return (
    Array.isArray(headers) &&
    headers.length === 2 &&
    headers[0] === 'A256GCM' &&
    typeof headers[1] === 'string'
  );
}

function headerList(headers: unknown): HeaderList {
  if (!Array.isArray(headers) || !headers.every(isHeader))
    throw new MalformedOutcomeError('its headers are not a list of names and values');
  return headers;
}

function isHeader(entry: unknown): entry is HeaderList[number] {
  if (!Array.isArray(entry) || entry.length !== 2) return false;
  const [name, value] = entry as unknown[];
  return typeof name === 'string' && (typeof value === 'string' || isTextList(value));
}

function isTextList(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((each) => typeof each === 'string');
}
