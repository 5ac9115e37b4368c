import { Logger } from '@nestjs/common';
import { StoreUnavailableError } from '../../lib/core/errors';
import type { Metrics } from '../../lib/core/ports';
import type { Claim, Outcome } from '../../lib/core/record';
import type { CompleteResult } from '../../lib/core/store';
import { PendingWrites, type Completion } from '../../lib/store/pending-writes';
import { eventually } from '../support/eventually';
import { aClaim, aResponse, completedRecord } from '../support/records';

const outage = new StoreUnavailableError('postgres', 'complete', 'gone');
const LONG = 60_000;

describe('writes that the arbiter could not take', () => {
  let writes: PendingWrites;
  let tried: string[];
  let waiting: number;
  let lost: number;
  let completed: [Completion, CompleteResult][];
  let complete: (claim: Claim, outcome: Outcome) => Promise<CompleteResult>;
  let release: (claim: Claim) => Promise<boolean>;
  let said: string[];

  beforeEach(() => {
    [tried, completed, said, waiting, lost] = [[], [], [], 0, 0];
    jest.spyOn(Logger.prototype, 'error').mockImplementation((line) => void said.push(String(line)));
    complete = () => Promise.resolve({ recorded: true });
    release = () => Promise.resolve(true);
    const arbiter = {
      complete: (claim: Claim, outcome: Outcome) => {
        tried.push(`complete ${claim.token}`);
        return complete(claim, outcome);
      },
      release: (claim: Claim) => {
        tried.push(`release ${claim.token}`);
        return release(claim);
      },
    };
    const metrics = { pendingWrite: (change: number) => (waiting += change), leaseLost: () => (lost += 1) };
    writes = new PendingWrites(arbiter, metrics as unknown as Metrics, (done, result) =>
      completed.push([done, result]),
    );
  });
  afterEach(async () => {
    await writes.stop(0);
    jest.restoreAllMocks();
  });

  const completion = (given: Partial<Claim> = {}): Completion => ({
    claim: aClaim(given),
    outcome: aResponse(),
  });

  it('are tried again until they land, outcomes before releases', async () => {
    let failures = 1;
    complete = () => (failures-- > 0 ? Promise.reject(outage) : Promise.resolve({ recorded: true }));
    const [one, given] = [completion(), aClaim()];
    writes.release(given, LONG);
    writes.complete(one, LONG);
    expect([waiting, writes.holds(one.claim.id)]).toEqual([2, true]);
    await eventually(() => expect(waiting).toBe(0));
    expect(tried[0]).toBe(`complete ${one.claim.token}`);
    expect(tried).toContain(`release ${given.token}`);
    expect(completed).toEqual([[one, { recorded: true }]]);
    expect(writes.holds(one.claim.id)).toBe(false);
  });

  it('of one key are settled on demand, and still wait where that fails', async () => {
    const one = completion();
    writes.complete(one, LONG);
    complete = () => Promise.reject(outage);
    await expect(writes.settle(one.claim.id)).rejects.toBe(outage);
    expect(writes.holds(one.claim.id)).toBe(true);
    complete = () => Promise.resolve({ recorded: true });
    await writes.settle(one.claim.id);
    expect(writes.holds(one.claim.id)).toBe(false);
    tried.length = 0;
    await writes.settle(aClaim().id);
    expect(tried).toEqual([]);
  });

  it('of one key are one: that of the latest claim', async () => {
    const [earlier, later] = [completion(), completion()].map(({ outcome }, fence) => ({
      claim: aClaim({ fence }),
      outcome,
    }));
    const id = earlier!.claim.id;
    const second = { ...later!, claim: { ...later!.claim, id } };
    writes.complete(earlier!, LONG);
    writes.complete(second, LONG);
    writes.complete(earlier!, LONG);
    expect(waiting).toBe(1);
    await writes.settle(id);
    expect(completed).toEqual([[second, { recorded: true }]]);
  });

  it('are given up where the arbiter refuses them for good', async () => {
    const one = completion();
    complete = () => Promise.reject(new Error('value too long'));
    writes.complete(one, LONG);
    await writes.settle(one.claim.id);
    expect([waiting, completed]).toEqual([0, []]);
  });

  it('that a later claim has outrun count as a lost lease', async () => {
    const one = completion();
    complete = () => Promise.resolve({ recorded: false, record: completedRecord() });
    writes.complete(one, LONG);
    await writes.settle(one.claim.id);
    expect([lost, waiting]).toEqual([1, 0]);
  });

  it('are given up once they have expired, without another try', async () => {
    writes.complete(completion(), 0);
    writes.release(aClaim(), 0);
    await eventually(() => expect(waiting).toBe(0));
    expect(tried).toEqual([]);
  });

  it('stop after two failures in a row, as the arbiter is away', async () => {
    release = () => Promise.reject(outage);
    for (let n = 0; n < 10; n++) writes.release(aClaim(), LONG);
    await eventually(() => expect(tried.length).toBeGreaterThan(0));
    await writes.stop(1_000);
    expect(tried.length).toBeLessThanOrEqual(4); // two at a time: once on its own, and once at the stop
    expect(waiting).toBe(0);
  });

  it('that are left at the stop are tried once more, said to be lost, and taken no more', async () => {
    complete = () => Promise.reject(outage);
    const one = completion();
    writes.complete(one, LONG);
    await writes.stop(1_000);
    expect(said).toEqual([expect.stringContaining('1 outcomes could not be written')]);
    writes.complete(one, LONG);
    writes.release(aClaim(), LONG);
    expect(waiting).toBe(0);
  });

  it('take no more memory than they may, and say so once', () => {
    const outcome = aResponse({ body: Buffer.alloc(20 * 1024 * 1024) });
    for (let n = 0; n < 6; n++) writes.complete({ claim: aClaim(), outcome }, LONG);
    expect(waiting).toBe(3);
    expect(said).toHaveLength(1);
    for (let n = 0; n < 10_005; n++) writes.release(aClaim(), LONG);
    expect(waiting).toBe(3 + 10_000);
  });
});
