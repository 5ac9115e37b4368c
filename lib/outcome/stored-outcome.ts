import { validateHeaderName, validateHeaderValue } from 'node:http';
import type {
  HeaderList,
  ResponseOutcome,
  EncryptedOutcome,
  StoredOutcome,
  TombstoneOutcome,
  TombstoneReason,
} from '../core/record';
import { FRAMING_HEADERS, isRecorded } from './recorded-headers';

/** Under this name a recorded response keeps its own reason phrase; no header can be called so. */
export const REASON = ':reason';

const NOTHING = Buffer.alloc(0);

/** An outcome as a store keeps it: the same four members in both, each in the store's own encoding. */
export interface OutcomeMembers {
  readonly status: unknown;
  /** Null unless the outcome is a tombstone. */
  readonly tombstone: unknown;
  /** A list of names and values, or the label of an encrypted outcome; null for a tombstone. */
  readonly headers: unknown;
  /** Null or empty for a tombstone. */
  readonly body: Buffer | null;
}

/** What stands in a store is not an outcome that this version of the module has written. */
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
    case 'encrypted':
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
  if (!isStatus(status)) throw new MalformedOutcomeError('its status is not an HTTP status');
  if (tombstone !== null) {
    if (tombstone !== 'too_large' && tombstone !== 'unstorable')
      throw new MalformedOutcomeError(`its tombstone is ${JSON.stringify(tombstone)}`);
    if (headers !== null || (body && body.length > 0))
      throw new MalformedOutcomeError('it is a tombstone and has a response');
    return { kind: 'tombstone', status, reason: tombstone };
  }
  if (body === null) throw new MalformedOutcomeError('it has no body');
  const outcome = isLabel(headers)
    ? ({ kind: 'encrypted', status, label: headers, content: body } as const)
    : ({ kind: 'response', status, headers: recordedOnly(headerList(headers)), body } as const);
  const problem = unsendable(outcome.kind === 'encrypted' ? { status, headers: [], body: NOTHING } : outcome);
  if (problem !== undefined) throw new MalformedOutcomeError(problem);
  return outcome;
}

/**
 * Why a response like this could not be sent, or not without splitting its connection; undefined if it can. Every
 * response that is recorded passes.
 * @param method of the request that gets it, if it is known: the answer to HEAD has the length of a body that it lacks
 */
export function unsendable(
  { status, headers, body }: Pick<ResponseOutcome, 'status' | 'headers' | 'body'>,
  method = 'HEAD',
): string | undefined {
  // Below 200 it would be an interim response, after which a client goes on waiting for the final one.
  if (!isStatus(status) || status < 200) return 'its status cannot end a response';
  let length: string | undefined;
  try {
    for (const [name, value] of headers) {
      const lower = name.toLowerCase();
      if (name !== REASON) validateHeaderName(name);
      else if (typeof value !== 'string') return 'its reason phrase is a list';
      if (FRAMING_HEADERS.has(lower)) return 'one of its headers belongs to a connection';
      for (const each of typeof value === 'string' ? [value] : value) validateHeaderValue(name, each);
      if (lower !== 'content-length') continue;
      if (length !== undefined || typeof value !== 'string') return 'it has more than one length';
      length = value;
    }
  } catch {
    return 'one of its headers cannot be sent';
  }
  return misframed(status, length, body, method);
}

function misframed(
  status: number,
  length: string | undefined,
  body: Buffer,
  method: string,
): string | undefined {
  if (isBodiless(status) && body.length > 0) return 'its status does not go with a body';
  if (length === undefined || length === String(body.length)) return undefined;
  if (!/^\d+$/.test(length)) return 'its length is not a number';
  const told = status === 304 || (method === 'HEAD' && status !== 204);
  return told && body.length === 0 ? undefined : 'its length is not that of its body';
}

/** A client takes what follows the head of such a response for the next response. */
export function isBodiless(status: number): boolean {
  return status === 204 || status === 304;
}

/** A tombstone for any status that a response was left with: it must be storable where nothing else is. */
export function tombstoneFor(status: unknown, reason: TombstoneReason): TombstoneOutcome {
  return { kind: 'tombstone', status: isStatus(status) ? status : 500, reason };
}

/** What Node and the database take for one. */
export function isStatus(status: unknown): status is number {
  return Number.isInteger(status) && (status as number) >= 100 && (status as number) <= 999;
}

function isLabel(headers: unknown): headers is EncryptedOutcome['label'] {
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

/** What belongs to one request is not written, so what a store has of it was put there by others, or long ago. */
function recordedOnly(headers: HeaderList): HeaderList {
  const passes = ([name]: HeaderList[number]): boolean => {
    const lower = name.toLowerCase();
    return isRecorded(lower) || FRAMING_HEADERS.has(lower); // which makes the outcome unsendable
  };
  return headers.every(passes) ? headers : headers.filter(passes);
}

function isHeader(entry: unknown): entry is HeaderList[number] {
  if (!Array.isArray(entry) || entry.length !== 2) return false;
  const [name, value] = entry as unknown[];
  return typeof name === 'string' && (typeof value === 'string' || isTextList(value));
}

function isTextList(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((each) => typeof each === 'string');
}
