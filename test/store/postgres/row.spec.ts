import { noEncryption } from '../../../lib/outcome/outcome-cipher';
import { outcomeValues, recordOf, type RecordRow } from '../../../lib/store/postgres/row';
import { aClaim, aResponse } from '../../support/records';

const claim = aClaim();
const row: RecordRow = {
  state: 'completed',
  fence: claim.fence,
  attempt: claim.attempt,
  token: claim.token,
  fingerprint: claim.fingerprint,
  expired: false,
  lease_remaining: null,
  expires_in: 1_000,
  status: 201,
  tombstone: null,
  headers: '[["Content-Type","text/plain"]]',
  body: Buffer.from('made').toString('base64'),
  awaits_standby: false,
};

describe('a row', () => {
  const reported: string[] = [];
  const read = (change: Partial<RecordRow>): unknown =>
    recordOf(claim.id, { ...row, ...change }, noEncryption, (_, problem) => reported.push(problem));
  beforeEach(() => reported.splice(0));

  it('is the record that it stands for', () => {
    expect(read({})).toEqual({
      ...claim,
      state: 'completed',
      outcome: aResponse(),
      expiresIn: 1_000,
      pending: false,
      tier: 'postgres',
    });
    expect(read({ state: 'in_progress', lease_remaining: -5 })).toEqual({
      ...claim,
      state: 'in_progress',
      leaseRemaining: -5,
      tier: 'postgres',
    });
    expect(reported).toEqual([]);
  });

  it.each<[string, Partial<RecordRow>, RegExp]>([
    ['an unknown state', { state: 'paused' }, /state is "paused"/],
    ['a claim without a lease', { state: 'in_progress' }, /state is "in_progress"/],
    ['headers that are no JSON', { headers: '[' }, /headers are not a list/],
    ['no body', { body: null }, /no body/],
    ['a tombstone of another version', { tombstone: 'lost' }, /tombstone is "lost"/],
    ['a seal whose key is missing', { headers: '["A256GCM","k"]' }, /k/],
  ])('with %s is reported, and is a tombstone: what it guards does not run again', (_, change, problem) => {
    expect(read(change)).toMatchObject({
      state: 'completed',
      outcome: { kind: 'tombstone', reason: 'unreadable' },
    });
    expect(reported).toEqual([expect.stringMatching(problem) as string]);
  });

  it('gives back each outcome that it was written with, from a database of any encoding', () => {
    const outcome = aResponse({ headers: [['X-Ä', 'é\u2028'], ['Vary', ['a', 'b']]] }); // prettier-ignore
    const [status, tombstone, headers, body] = outcomeValues({
      ...outcome,
      headers: outcome.headers.slice(1),
    });
    expect(read({ status, tombstone, headers, body: body!.toString('base64') })).toMatchObject({
      outcome: { headers: outcome.headers.slice(1) },
    });
    expect(outcomeValues(outcome)[2]).toMatch(/^[\x20-\x7e]*$/);
  });
});
