import { performance } from 'node:perf_hooks';
import { LeaseManager, LeaseLostError } from '../../lib/core/lease';
import { recordId, type Claim } from '../../lib/core/record';
import { eventually } from '../support/eventually';

const claimOf = (token: string): Claim => ({
  id: recordId('test', token),
  fingerprint: 'f',
  token,
  fence: 1,
  attempt: 1,
});

describe('the keeper of leases', () => {
  let beats: string[][];
  let answer: (tokens: string[]) => Promise<ReadonlySet<string>>;
  let keeper: LeaseManager;

  beforeEach(() => {
    beats = [];
    answer = async (tokens) => new Set(tokens);
    keeper = new LeaseManager({
      renew: (claims) => {
        const tokens = claims.map((claim) => claim.token);
        beats.push(tokens);
        return answer(tokens);
      },
    });
  });
  afterEach(() => keeper.stop());

  it('renews claims made moments apart together', async () => {
    const now = performance.now();
    keeper.start(claimOf('a'), 90, now);
    keeper.start(claimOf('b'), 90, now + 3);
    await eventually(() => expect(beats.length).toBeGreaterThan(2));
    expect(beats[0]).toEqual(['a', 'b']);
    expect(beats[1]).toEqual(['a', 'b']);
  });

  it('stops renewing a claim that was dropped', async () => {
    const held = keeper.start(claimOf('a'), 1_000, performance.now());
    keeper.start(claimOf('b'), 1_000, performance.now());
    await eventually(() => expect(beats.flat()).toContain('a'));
    held.stop();
    beats = [];
    await eventually(() => expect(beats.length).toBeGreaterThan(1));
    expect(beats.flat()).not.toContain('a');
    expect(held.signal.aborted).toBe(false);
  });

  it('aborts the signal of a claim that no longer stands', async () => {
    answer = async () => new Set();
    const held = keeper.start(claimOf('a'), 60, performance.now());
    await eventually(() => expect(held.signal.aborted).toBe(true));
    expect(held.signal.reason).toBeInstanceOf(LeaseLostError);
  });

  it('aborts the signal once a lease could not be renewed in time, and goes on trying', async () => {
    answer = () => Promise.reject(new Error('down'));
    const held = keeper.start(claimOf('a'), 90, performance.now());
    await eventually(() => expect(held.signal.aborted).toBe(true));
    const tried = beats.length;
    await eventually(() => expect(beats.length).toBeGreaterThan(tried));
  });

  it('renews a short lease in time beside a long one that was held before it', async () => {
    keeper.start(claimOf('long'), 30_000, performance.now());
    keeper.start(claimOf('short'), 60, performance.now());
    await eventually(() => expect(beats.length).toBeGreaterThan(1));
    expect(beats[0]).toEqual(['short']);
    expect(beats[1]).toEqual(['short']);
  });

  it('renews the others when the claim that the next beat was due for is dropped', async () => {
    const first = keeper.start(claimOf('first'), 60, performance.now());
    keeper.start(claimOf('other'), 400, performance.now());
    first.stop();
    await eventually(() => expect(beats.length).toBeGreaterThan(1));
    expect(beats[0]).toEqual(['other']);
  });

  it('renews nothing once it is stopped', async () => {
    keeper.start(claimOf('a'), 30, performance.now());
    keeper.stop();
    const control = new LeaseManager({ renew: async () => (beats.push(['control']), new Set(['control'])) });
    control.start(claimOf('control'), 90, performance.now());
    await eventually(() => expect(beats.length).toBeGreaterThan(0));
    control.stop();
    expect(beats[0]).toEqual(['control']);
  });
});
