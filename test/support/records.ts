import { randomUUID } from 'node:crypto';
import {
  recordId,
  type Claim,
  type CompletedRecord,
  type InProgressRecord,
  type ResponseOutcome,
} from '../../lib/core/record';

/** Of a key that no other test has. */
export function aClaim(given: Partial<Claim> = {}): Claim {
  const id = recordId('POST /orders', randomUUID());
  return { id, fingerprint: 'f'.repeat(64), token: randomUUID(), fence: 1, attempt: 1, ...given };
}

export function aResponse(given: Partial<ResponseOutcome> = {}): ResponseOutcome {
  return {
    kind: 'response',
    status: 201,
    headers: [['Content-Type', 'text/plain']],
    body: Buffer.from('made'),
    ...given,
  };
}

export function inProgressRecord(given: Partial<InProgressRecord> = {}): InProgressRecord {
  return { ...aClaim(), state: 'in_progress', leaseRemaining: 10_000, tier: 'postgres', ...given };
}

export function completedRecord(given: Partial<CompletedRecord> = {}): CompletedRecord {
  return {
    ...aClaim(),
    state: 'completed',
    outcome: aResponse(),
    expiresIn: 60_000,
    pending: false,
    tier: 'postgres',
    ...given,
  };
}
