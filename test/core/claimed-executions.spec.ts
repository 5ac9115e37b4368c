import { ClaimedExecutions } from '../../lib/core/claimed-executions';
import { StoreUnavailableError } from '../../lib/core/errors';
import type { Lease } from '../../lib/core/lease';
import type { Policy } from '../../lib/core/policy';
import type { RequestObserver } from '../../lib/core/ports';
import type { Claim, CompletedRecord, Outcome } from '../../lib/core/record';
import type { CompleteResult, IdempotencyStore } from '../../lib/core/store';
import type { RunResult } from '../../lib/core/work';
import { aClaim, aResponse, completedRecord, inProgressRecord } from '../support/records';

const outage = new StoreUnavailableError('postgres', 'complete', 'gone');
const claim = aClaim();
const request = { id: claim.id, fingerprint: claim.fingerprint, policy: { lease: 30_000 } as Policy };
const own = aResponse();
const theirs = completedRecord({ ...claim, fence: 2, outcome: aResponse({ body: Buffer.from('theirs') }) });

describe('an execution under a claim', () => {
  let released: Claim[];
  let held = 0;
  let counted: string[];
  let inFlight = 0;
  const run = (
    work: () => Promise<Outcome | undefined>,
    complete: () => Promise<CompleteResult> = () => Promise.resolve({ recorded: true }),
    { winner, of = claim }: { winner?: CompletedRecord; of?: Claim } = {},
  ): Promise<RunResult> => {
    released = [];
    counted = [];
    held = 1;
    const store = {
      complete,
      release: (each: Claim) => {
        released.push(each);
        return Promise.reject(outage);
      },
    } as unknown as IdempotencyStore;
    const counts: Partial<RequestObserver> = {
      inFlight: (change) => (inFlight += change),
      claimed: (_, { attempt }) => counted.push(`claimed, attempt ${attempt}`),
    };
    const observer = new Proxy(counts, {
      get: (own, name) => own[name as keyof RequestObserver] ?? (() => counted.push(String(name))),
    }) as RequestObserver;
    const signal = new AbortController().signal;
    const lease = { signal, heldUntil: 0, stop: () => (held -= 1) } as unknown as Lease;
    const executions = new ClaimedExecutions(store, observer, () => Promise.resolve(winner));
    return executions.run(request, { kind: 'claimed', claim: of, lease }, work);
  };
  afterEach(() => {
    expect(held).toBe(0); // its lease is not renewed any longer
    expect(inFlight).toBe(0);
  });

  it('records its outcome, and keeps its key', async () => {
    let meanwhile = 0;
    const result = await run(() => {
      meanwhile = inFlight;
      return Promise.resolve(own);
    });
    expect(result).toEqual({ kind: 'executed', outcome: own, recorded: true });
    expect(meanwhile).toBe(1);
    expect(released).toEqual([]);
    expect(counted).toEqual(['claimed, attempt 1', 'firstRequest']);
  });

  it('gives its key back without an outcome, and is answered although the store cannot take that now', async () => {
    const result = await run(() => Promise.resolve(undefined));
    expect(result).toEqual({ kind: 'executed', outcome: undefined, recorded: false });
    expect(released).toEqual([claim]);
  });

  it('gives its key back where the handler throws, and passes that on', async () => {
    const error = new Error('handler failed');
    await expect(run(() => Promise.reject(error))).rejects.toBe(error);
    expect(released).toEqual([claim]);
  });

  it('tells a takeover', async () => {
    await run(() => Promise.resolve(own), undefined, { of: { ...claim, attempt: 2 } });
    expect(counted).toEqual(['claimed, attempt 2', 'firstRequest']);
  });

  it('is not answered as recorded where the store could not take the outcome', async () => {
    const work = run(
      () => Promise.resolve(own),
      () => Promise.reject(outage),
    );
    await expect(work).rejects.toMatchObject({ code: 'outcome_not_recorded' });
    expect(released).toEqual([]);
  });

  it('whose lease was lost answers with the winner’s outcome', async () => {
    const result = await run(
      () => Promise.resolve(own),
      () => Promise.resolve({ recorded: false, record: inProgressRecord({ ...claim, fence: 2 }) }),
      { winner: theirs },
    );
    expect(result).toEqual({ kind: 'replayed', outcome: theirs.outcome, tier: theirs.tier });
    expect(counted).toEqual(['claimed, attempt 1', 'firstRequest', 'leaseLost']);
  });
});
