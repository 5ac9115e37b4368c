import type {
  Claim,
  CompletedRecord,
  HeaderList,
  IdempotencyRecord,
  Outcome,
  RecordId,
  TombstoneReason,
} from '../../core/record';

/** A record as the statements return it; times are milliseconds from now. */
export interface RecordRow {
  readonly state: string;
  readonly fence: number;
  readonly attempt: number;
  readonly token: string;
  /** Hexadecimal. */
  readonly fingerprint: string;
  readonly expired: boolean;
  readonly lease_remaining: number | null;
  readonly expires_in: number;
  readonly status: number | null;
  readonly tombstone: string | null;
  /** JSON. */
  readonly headers: string | null;
  /** Base64. */
  readonly body: string | null;
}

/** Raised to the caller's knowledge through `report`; the row itself reads as a tombstone. */
export type Report = (id: RecordId, problem: string) => void;

/**
 * The record that a row stands for. A row that cannot be understood, because somebody changed it by hand or a newer
 * version of the module wrote it, is reported and reads as a tombstone: what it guards must not run again.
 */
export function recordOf(id: RecordId, row: RecordRow, report: Report): IdempotencyRecord {
  const claim = claimOf(id, row);
  if (row.state === 'in_progress' && row.lease_remaining !== null) {
    return { ...claim, state: 'in_progress', leaseRemaining: row.lease_remaining, tier: 'postgres' };
  }
  return {
    ...claim,
    ...completed(
      row,
      outcomeOf(row, (problem) => report(id, problem)),
    ),
  };
}

export function claimOf(id: RecordId, { fingerprint, token, fence, attempt }: Omit<Claim, 'id'>): Claim {
  return { id, fingerprint, token, fence, attempt };
}

/** The values of status, tombstone, headers and body, in this order. */
export function outcomeValues(
  outcome: Outcome,
): [number, TombstoneReason | null, string | null, Buffer | null] {
  switch (outcome.kind) {
    case 'response':
      return [outcome.status, null, asciiJson(outcome.headers), outcome.body];
    case 'tombstone':
      return [outcome.status, outcome.reason, null, null];
    default:
      return outcome satisfies never;
  }
}

function completed(row: RecordRow, outcome: Outcome): Omit<CompletedRecord, keyof Claim> {
  return { state: 'completed', outcome, expiresIn: row.expires_in, pending: false, tier: 'postgres' };
}

function outcomeOf(row: RecordRow, report: (problem: string) => void): Outcome {
  const { state, status, tombstone, headers, body } = row;
  const unreadable = (problem: string): Outcome => {
    report(problem);
    return { kind: 'tombstone', status: status ?? 500, reason: 'unstorable' };
  };
  if (state !== 'completed') return unreadable(`its state is ${JSON.stringify(state)}`);
  if (status === null) return unreadable('it has no status');
  if (tombstone === 'too_large' || tombstone === 'unstorable')
    return { kind: 'tombstone', status, reason: tombstone };
  if (tombstone !== null) return unreadable(`its tombstone is ${JSON.stringify(tombstone)}`);
  if (body === null) return unreadable('it has no body');
  const list = headerList(headers);
  if (!list) return unreadable('its headers are not a list of names and values');
  return { kind: 'response', status, headers: list, body: Buffer.from(body, 'base64') };
}

function headerList(json: string | null): HeaderList | undefined {
  if (json === null) return undefined;
  try {
    const list: unknown = JSON.parse(json);
    return Array.isArray(list) && list.every(isHeader) ? list : undefined;
  } catch {
    return undefined;
  }
}

function isHeader(entry: unknown): entry is HeaderList[number] {
  if (!Array.isArray(entry) || entry.length !== 2) return false;
  const [name, value] = entry as unknown[];
  return typeof name === 'string' && (typeof value === 'string' || isTextList(value));
}

function isTextList(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((each) => typeof each === 'string');
}

/** Without characters that a database with another encoding than UTF-8 could not hold. */
function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
