import fc from 'fast-check';
import type { HeaderList, StoredOutcome } from '../../lib/core/record';
import { isStatus, membersOf, outcomeOf, tombstoneFor, unsendable } from '../../lib/outcome/stored-outcome';
import { runs } from '../support/arbitraries';
import { aResponse } from '../support/records';

const members = { status: 201, tombstone: null, headers: [['X-A', '1']], body: Buffer.from('made') };

describe('a stored outcome', () => {
  it.each<StoredOutcome>([
    aResponse({ headers: [['Vary', ['a', 'b']], ['X-A', '']] }), // prettier-ignore
    aResponse({ status: 204, headers: [], body: Buffer.alloc(0) }),
    { kind: 'tombstone', status: 200, reason: 'too_large' },
    { kind: 'encrypted', status: 201, label: ['A256GCM', 'k1'], content: Buffer.from('sealed') },
  ])('is read as it was written: $kind with status $status', (outcome) => {
    expect(outcomeOf(membersOf(outcome))).toEqual(outcome);
  });

  it.each<[string, object, RegExp]>([
    ['no status', { status: null }, /has no status/],
    ['a status as text', { status: '201' }, /its status is not an HTTP status/],
    ['an interim status', { status: 102 }, /its status cannot end a response/],
    ['an unknown tombstone', { tombstone: 'lost' }, /tombstone is "lost"/],
    ['a tombstone and a response', { tombstone: 'too_large' }, /tombstone and has a response/],
    ['no body', { body: null }, /has no body/],
    ['headers that are no list', { headers: { 'X-A': '1' } }, /not a list of names and values/],
    ['a header that is no text', { headers: [['X-A', 1]] }, /not a list of names and values/],
    ['a header that splits the response', { headers: [['X-A', 'a\r\nX-B: c']] }, /cannot be sent/],
    ['a header that no name can be', { headers: [['X A', '1']] }, /cannot be sent/],
    [
      'a header of its connection',
      { headers: [['Transfer-Encoding', 'chunked']] },
      /belongs to a connection/,
    ],
    ['two lengths', { headers: [['Content-Length', '4'], ['content-length', '4']] }, /more than one length/], // prettier-ignore
    ['a wrong length', { headers: [['Content-Length', '5']] }, /not that of its body/],
    ['a body that its status has not', { status: 304 }, /does not go with a body/],
    ['a list for a reason phrase', { headers: [[':reason', ['a']]] }, /reason phrase is a list/],
  ])('is refused with %s', (_, change, message) => {
    expect(() => outcomeOf({ ...members, ...change })).toThrow(message);
  });

  it('of whatever a store holds is one that can be sent, or refused as malformed', () => {
    const headers = fc.oneof(
      fc.array(fc.tuple(fc.string({ maxLength: 3 }), fc.oneof(fc.string(), fc.array(fc.string())))),
      fc.anything(),
    );
    const anything = fc.record({
      status: fc.oneof(fc.integer({ min: 90, max: 1_010 }), fc.anything()),
      tombstone: fc.constantFrom(null, null, 'too_large', 'other'),
      headers,
      body: fc.option(fc.uint8Array({ maxLength: 5 }).map((bytes) => Buffer.from(bytes))),
    });
    fc.assert(
      fc.property(anything, (given) => {
        try {
          const outcome = outcomeOf(given);
          if (outcome.kind === 'response') expect(unsendable(outcome)).toBeUndefined();
          expect(isStatus(outcome.status)).toBe(true);
        } catch (error) {
          expect((error as Error).name).toBe('MalformedOutcomeError');
        }
      }),
      runs(1_000),
    );
  });

  it('loses what belongs to one request, which others have put there', () => {
    const headers: HeaderList = [
      ['Set-Cookie', 'a=b'],
      ['X-A', '1'],
    ];
    expect(outcomeOf({ ...members, headers })).toMatchObject({ headers: [['X-A', '1']] });
  });

  it('of an answer to HEAD has the length of a body that it lacks, and of no other method', () => {
    const head = aResponse({ status: 200, headers: [['Content-Length', '9']], body: Buffer.alloc(0) });
    expect([unsendable(head), unsendable(head, 'GET')]).toEqual([
      undefined,
      'its length is not that of its body',
    ]);
    expect(unsendable({ ...head, status: 304 }, 'GET')).toBeUndefined();
  });

  it('is a tombstone for a response of any status', () => {
    expect([404, 1000, 'abc', undefined].map((status) => tombstoneFor(status, 'unstorable').status)).toEqual([
      404, 500, 500, 500,
    ]);
  });
});
