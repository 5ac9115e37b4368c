import fc from 'fast-check';
import { recordId, type Claim, type Outcome } from '../../../lib/core/record';
import { decode, encodeRest, ForeignValueError, RANK, toRecord } from '../../../lib/store/redis/codec';

const NOW = 1_800_000_000_000;
const id = recordId('POST /orders', 'key');

const claims: fc.Arbitrary<Claim> = fc.record({
  id: fc.constant(id),
  fingerprint: fc.stringMatching(/^[0-9a-f]{64}$/),
  token: fc.uuid(),
  fence: fc.maxSafeNat(),
  attempt: fc.integer({ min: 1, max: 1_000_000 }),
});
const headerValue = fc.string({ unit: 'binary' });
const outcomes: fc.Arbitrary<Outcome> = fc.oneof(
  fc.record({
    kind: fc.constant('response' as const),
    status: fc.integer({ min: 100, max: 599 }),
    headers: fc.array(fc.tuple(fc.string(), fc.oneof(headerValue, fc.array(headerValue)))),
    body: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  }),
  fc.record({
    kind: fc.constant('tombstone' as const),
    status: fc.integer({ min: 100, max: 599 }),
    reason: fc.constantFrom('too_large' as const, 'unstorable' as const),
  }),
);

/** What the scripts write: their head before our rest. */
function stored(
  rank: number,
  claim: Claim,
  leaseUntil: number,
  expiresAt: number,
  outcome?: Outcome,
): Buffer {
  const head = [rank, claim.fence, claim.attempt, leaseUntil, expiresAt].join(':');
  return Buffer.concat([Buffer.from(`${head}\n`), encodeRest(claim, outcome)]);
}

describe('a value in Redis', () => {
  it('gives back the claim and its outcome as they were, byte for byte', () => {
    fc.assert(
      fc.property(claims, outcomes, fc.boolean(), (claim, outcome, pending) => {
        const rank = pending ? RANK.pending : RANK.completed;
        const value = decode(id, stored(rank, claim, 0, NOW + 1_000, outcome));
        expect(toRecord(value, NOW)).toEqual({
          ...claim,
          state: 'completed',
          outcome,
          pending,
          expiresIn: 1_000,
          tier: 'redis',
        });
      }),
    );
  });

  it('gives back a claim in progress, with what remains of its lease', () => {
    fc.assert(
      fc.property(claims, fc.integer({ min: -10_000, max: 10_000 }), (claim, leaseRemaining) => {
        const value = decode(id, stored(RANK.in_progress, claim, NOW + leaseRemaining, NOW + 20_000));
        expect(toRecord(value, NOW)).toEqual({
          ...claim,
          state: 'in_progress',
          leaseRemaining,
          tier: 'redis',
        });
      }),
    );
  });

  it('is absent once it is marked as removed', () => {
    const value = decode(id, Buffer.from(`${RANK.removed}:7:1:0:${NOW}\n`));
    expect(toRecord(value, NOW)).toBeUndefined();
  });

  it('orders the states of one claim: in progress, pending, completed, removed', () => {
    expect([RANK.in_progress, RANK.pending, RANK.completed, RANK.removed]).toEqual([0, 1, 2, 3]);
  });
});

describe('a value that this module did not write', () => {
  const foreign = (bytes: Buffer | string): void => {
    expect(() => decode(id, Buffer.from(bytes))).toThrow(ForeignValueError);
  };

  it('is refused, whatever its bytes', () => {
    fc.assert(fc.property(fc.uint8Array(), (bytes) => foreign(Buffer.from(bytes))));
    fc.assert(fc.property(fc.string(), (text) => foreign(text)));
  });

  it('is refused if it only begins like ours', () => {
    const [claim] = fc.sample(claims, 1) as [Claim];
    const value = stored(RANK.in_progress, claim, NOW, NOW);
    for (let length = 0; length < value.length; length++) foreign(value.subarray(0, length));
  });

  const meta = { v: 1, token: 't', fingerprint: 'f', status: 200, headers: [] };
  it.each([
    ['an empty value', ''],
    ['no meta data', `2:1:1:0:${NOW}\n\n`],
    ['an unknown rank', `4:1:1:0:${NOW}\n${JSON.stringify(meta)}\n`],
    ['a later version', `2:1:1:0:${NOW}\n${JSON.stringify({ ...meta, v: 2 })}\n`],
    ['no version', `2:1:1:0:${NOW}\n${JSON.stringify({ ...meta, v: undefined })}\n`],
    ['a status that is no number', `2:1:1:0:${NOW}\n${JSON.stringify({ ...meta, status: '200' })}\n`],
    ['headers of another form', `2:1:1:0:${NOW}\n${JSON.stringify({ ...meta, headers: { a: 'b' } })}\n`],
    ['an outcome without headers', `2:1:1:0:${NOW}\n${JSON.stringify({ ...meta, headers: undefined })}\n`],
    [
      'an unknown tombstone',
      `2:1:1:0:${NOW}\n${JSON.stringify({ ...meta, tombstone: 'x', headers: undefined })}\n`,
    ],
    ['a claim in progress with a body', `0:1:1:0:${NOW}\n${JSON.stringify(meta)}\nbody`],
    ['a fence beyond what a number holds', `2:9999999999999999:1:0:${NOW}\n${JSON.stringify(meta)}\n`],
    ['a fence with a sign', `2:-1:1:0:${NOW}\n${JSON.stringify(meta)}\n`],
  ])('is refused: %s', (_, value) => foreign(value));
});
