import type {
  Claim,
  CompletedRecord,
  IdempotencyRecord,
  Outcome,
  RecordId,
  StoredOutcome,
} from '../../core/record';
import { OutcomeCipherError, type OutcomeCipher } from '../../outcome/outcome-cipher';
import { MalformedOutcomeError, membersOf, outcomeOf, tombstoneFor } from '../../outcome/stored-outcome';

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
  /** A commit waits for a standby, so what is read here may not be there. */
  readonly awaits_standby: boolean;
}

/** Told why a row cannot be understood; the row itself reads as a tombstone. */
export type Report = (id: RecordId, problem: string) => void;

/**
 * The record that a row stands for. A row that cannot be understood, because it was changed by hand, a newer
 * version of the module wrote it, or its key is missing here, is reported and reads as a tombstone: what it guards must
 * not run again.
 */
export function recordOf(
  id: RecordId,
  row: RecordRow,
  cipher: OutcomeCipher,
  report: Report,
): IdempotencyRecord {
  const claim = claimOf(id, row);
  if (row.state === 'in_progress' && row.lease_remaining !== null) {
    return { ...claim, state: 'in_progress', leaseRemaining: row.lease_remaining, tier: 'postgres' };
  }
  try {
    return completed(row, claim, cipher.decrypt(claim, storedOutcome(row)));
  } catch (error) {
    report(id, problemOf(error));
    return completed(row, claim, tombstoneFor(row.status, 'unreadable'));
  }
}

export function claimOf(id: RecordId, { fingerprint, token, fence, attempt }: Omit<Claim, 'id'>): Claim {
  return { id, fingerprint, token, fence, attempt };
}

/** The values of status, tombstone, headers and body, in this order. */
export function outcomeValues(outcome: StoredOutcome): [number, string | null, string | null, Buffer | null] {
  const { status, tombstone, headers, body } = membersOf(outcome);
  return [status, tombstone, headers === null ? null : asciiJson(headers), body];
}

function completed(row: RecordRow, claim: Claim, outcome: Outcome): CompletedRecord {
  return {
    ...claim,
    state: 'completed',
    expiresIn: row.expires_in,
    pending: false,
    tier: 'postgres',
    outcome,
  };
}

function storedOutcome({ state, status, tombstone, headers, body }: RecordRow): StoredOutcome {
  if (state !== 'completed') throw new MalformedOutcomeError(`its state is ${JSON.stringify(state)}`);
  return outcomeOf({
    status,
    tombstone,
    headers: parseJson(headers),
    body: body === null ? null : Buffer.from(body, 'base64'),
  });
}

function problemOf(error: unknown): string {
  if (error instanceof MalformedOutcomeError) return error.problem;
  if (error instanceof OutcomeCipherError) return error.message;
  throw error;
}

function parseJson(text: string | null): unknown {
  try {
    return text === null ? null : JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Without characters that a database with another encoding than UTF-8 could not hold. */
function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
