import { createHash, randomUUID } from 'node:crypto';
import { recordId, type Claim, type ResponseOutcome } from '../../lib/core/record';
import type { ClaimRequest } from '../../lib/core/store';

/** The error that a promise rejects with, and after how many ms; fails if it is fulfilled. */
export async function rejection(promise: Promise<unknown>): Promise<{ error: unknown; after: number }> {
  const startedAt = performance.now();
  try {
    await promise;
  } catch (error) {
    return { error, after: performance.now() - startedAt };
  }
  throw new Error('fulfilled, although it should have been rejected');
}

export const fingerprint = createHash('sha256').update('request').digest('hex');

export function newClaim(given: Partial<Claim> = {}): Claim {
  const id = recordId('POST /orders', randomUUID());
  return { id, fingerprint, token: randomUUID(), fence: 1, attempt: 1, ...given };
}

export function claimRequest(given: Partial<ClaimRequest> = {}): ClaimRequest {
  const { id, token } = newClaim();
  return {
    id,
    fingerprint,
    token,
    lease: 30_000,
    takeOver: false,
    bypassCache: false,
    durability: 'durable',
    ...given,
  };
}

export function response(body = '{"id":1}'): ResponseOutcome {
  return {
    kind: 'response',
    status: 201,
    headers: [['Content-Type', 'application/json']],
    body: Buffer.from(body),
  };
}
