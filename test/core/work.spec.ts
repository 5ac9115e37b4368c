import { StoreUnavailableError } from '../../lib/core/errors';
import type { Policy } from '../../lib/core/policy';
import type { CompletedRecord, IdempotencyRecord } from '../../lib/core/record';
import type { IdempotencyStore } from '../../lib/core/store';
import {
  executeUnprotected,
  NotBegunError,
  releasable,
  releaseClaim,
  replayWinner,
  type RunResult,
} from '../../lib/core/work';
import { aClaim, aResponse, completedRecord, inProgressRecord } from '../support/records';

const claim = aClaim();
const request = { id: claim.id, fingerprint: claim.fingerprint, policy: { lease: 30_000 } as Policy };
const theirs = completedRecord({ ...claim, fence: 2, outcome: aResponse({ body: Buffer.from('theirs') }) });

describe('a request whose key is another’s by now', () => {
  const winnerOf = (standing: IdempotencyRecord, awaited?: CompletedRecord): Promise<RunResult> =>
    replayWinner(standing, request, () => Promise.resolve(awaited));

  it.each<[string, IdempotencyRecord, CompletedRecord | undefined]>([
    ['which is there', theirs, undefined],
    ['which is awaited', inProgressRecord({ ...claim, fence: 2 }), theirs],
  ])('gets that one’s outcome, %s', async (_, standing, awaited) => {
    const { outcome, tier } = theirs;
    expect(await winnerOf(standing, awaited)).toEqual({ kind: 'replayed', outcome, tier });
  });

  it.each<[string, IdempotencyRecord, string]>([
    ['has none yet', inProgressRecord(), 'in_flight'],
    ['is another request', { ...theirs, fingerprint: 'e'.repeat(64) }, 'fingerprint_mismatch'],
  ])('is refused where that one %s', async (_, standing, code) => {
    await expect(winnerOf(standing)).rejects.toMatchObject({ code });
  });
});

describe('work without a claim', () => {
  it('is told its key, and is not recorded', async () => {
    const outcome = aResponse();
    const result = await executeUnprotected(request, ({ context }) => {
      expect(context).toMatchObject({ key: claim.id.key, attempt: 1, fence: 0 });
      expect(context.signal.aborted).toBe(false);
      return Promise.resolve(outcome);
    });
    expect(result).toEqual({ kind: 'executed', outcome, recorded: false });
  });
});

describe('a claim that is given back', () => {
  it('names its fence only if work has begun under it', () => {
    expect(releasable(claim, new Error('handler failed'))).toBe(claim);
    expect(releasable(claim, new NotBegunError(new Error('refused')))).toEqual({ ...claim, fence: 0 });
  });

  it('fails for no store that cannot be reached, but for one that refuses', async () => {
    const failing = (error: Error): IdempotencyStore =>
      ({ release: () => Promise.reject(error) }) as unknown as IdempotencyStore;
    await releaseClaim(failing(new StoreUnavailableError('postgres', 'release', 'gone')), claim);
    const refused = new Error('refused');
    await expect(releaseClaim(failing(refused), claim)).rejects.toBe(refused);
  });
});
