import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { plainDigest } from '../../core/digest';
import {
  recordId,
  type Claim,
  type IdempotencyRecord,
  type RecordId,
  type ResponseOutcome,
} from '../../core/record';
import type { ClaimRequest, ClaimResult } from '../../core/store';
import type { ContractRunner, ContractSubject } from './runner';

export const FINGERPRINT = 'a'.repeat(64);
export const OTHER_FINGERPRINT = 'b'.repeat(64);
/** Milliseconds. */
export const LONG_RETENTION = 3_600_000;
export const SHORT_RETENTION = 120;
export const SHORT_LEASE = 60;

export const created: ResponseOutcome = {
  kind: 'response',
  status: 201,
  headers: [['Content-Type', 'application/json']],
  body: Buffer.from('{"id":1}'),
};

/** One test's key, and what tests do with it. */
export interface Trial extends Omit<ContractSubject, 'close'>, Pick<ContractRunner, 'expect'> {
  readonly id: RecordId;
  readonly request: (more?: Partial<ClaimRequest>) => ClaimRequest;
  /** Claims the key, which has to succeed. */
  readonly claim: (more?: Partial<ClaimRequest>) => Promise<Claim>;
  /** Claims the key for a lease that has lapsed. */
  readonly orphan: () => Promise<Claim>;
}

/** Defines a test. */
export type DefineTest = (title: string, test: (trial: Trial) => Promise<void>) => void;

export function trialOn(
  { store, another }: ContractSubject,
  { expect }: Pick<ContractRunner, 'expect'>,
): Trial {
  const id = newId();
  const request = (more: Partial<ClaimRequest> = {}): ClaimRequest => ({
    id,
    fingerprint: FINGERPRINT,
    token: randomUUID(),
    lease: 30_000,
    takeOver: false,
    bypassCache: true,
    durability: 'durable',
    ...more,
  });
  const claim = async (more?: Partial<ClaimRequest>): Promise<Claim> => won(await store.claim(request(more)));
  const orphan = async (): Promise<Claim> => {
    const lapsing = await claim({ lease: SHORT_LEASE });
    await until('the lease has lapsed', async () => inProgress(await store.find(id)).leaseRemaining <= 0);
    return lapsing;
  };
  return { store, another, expect, id, request, claim, orphan };
}

export function newId(): RecordId {
  return recordId('POST /leads', randomUUID(), plainDigest);
}

export function won(result: ClaimResult | undefined): Claim {
  if (!result?.claimed) throw new Error('the claim was not won');
  return result.claim;
}

/** Of claims of one key at once, the one that was won. */
export function onlyWinner(results: readonly ClaimResult[], expect: ContractRunner['expect']): Claim {
  const winners = results.filter((result) => result.claimed);
  expect(winners).toHaveLength(1);
  return won(winners[0]);
}

export function inProgress(
  record: IdempotencyRecord | undefined,
): IdempotencyRecord & { state: 'in_progress' } {
  if (record?.state !== 'in_progress') throw new Error('the record is not in progress');
  return record;
}

/** Asks again and again, for 15 s at most. */
export async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 15_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`It is not so after 15 s: ${what}`);
    await delay(15);
  }
}
