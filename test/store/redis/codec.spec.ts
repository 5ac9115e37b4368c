import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { recordId, type Claim, type Outcome } from '../../../lib/core/record';
import { decode, encodeRest, ForeignValueError, RANK, toRecord } from '../../../lib/store/redis/codec';
import { claims as anyClaims, outcomes } from '../../support/outcomes';

const NOW = 1_800_000_000_000;
const id = recordId('POST /orders', 'key');

const claims = anyClaims.map((claim) => ({ ...claim, id }));

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

  const meta = {
    v: 1,
    token: randomUUID(),
    fingerprint: 'f'.repeat(64),
    status: 200,
    headers: [] as unknown,
  };
  const completed = (change: object, body = 'body'): string =>
    `2:1:1:0:${NOW}\n${JSON.stringify({ ...meta, ...change })}\n${body}`;
  const inProgress = { ...meta, status: undefined, headers: undefined };
  const tombstone = { tombstone: 'too_large', headers: undefined };

  it('is told from one that it did', () => {
    expect(decode(id, Buffer.from(completed({})))).toMatchObject({ outcome: { kind: 'response' } });
    expect(decode(id, Buffer.from(completed(tombstone, '')))).toMatchObject({
      outcome: { kind: 'tombstone' },
    });
    const claimed = decode(id, Buffer.from(`0:1:1:${NOW}:${NOW}\n${JSON.stringify(inProgress)}\n`));
    expect(claimed).toMatchObject({ kind: 'in_progress' });
  });

  it.each([
    ['an empty value', ''],
    ['no meta data', `2:1:1:0:${NOW}\n\n`],
    ['an unknown rank', completed({}).replace(/^2/, '4')],
    ['a later version', completed({ v: 2 })],
    ['no version', completed({ v: undefined })],
    ['a member that we do not write', completed({ more: 1 })],
    ['a __proto__ of its own', completed({}).replace('{', '{"__proto__":{"status":200},')],
    ['all in a __proto__', `2:1:1:0:${NOW}\n{"__proto__":${JSON.stringify(meta)}}\n`],
    ['a token that is no UUID', completed({ token: 't' })],
    ['a fingerprint that is no SHA-256', completed({ fingerprint: 'f' })],
    ['a status that is no number', completed({ status: '200' })],
    ['no status', completed({ status: undefined })],
    ['a status that is a fraction', completed({ status: 200.5 })],
    ['a status beyond those of HTTP', completed({ status: 1000 })],
    ['a status that ends no response', completed({ status: 101 })],
    ['headers of another form', completed({ headers: { a: 'b' } })],
    ['a header that is no pair', completed({ headers: [['a', 'b', 'c']] })],
    ['a header value that is a number', completed({ headers: [['a', 1]] })],
    ['a header value that splits the response', completed({ headers: [['a', 'b\r\nSet-Cookie: c']] })],
    ['one in a list that does', completed({ headers: [['a', ['b', 'c\n']]] })],
    ['a header value beyond Latin-1', completed({ headers: [['a', '太']] })],
    ['a header name that is no token', completed({ headers: [['a b', 'c']] })],
    ['an empty header name', completed({ headers: [['', 'c']] })],
    ['a header that is the connection’s', completed({ headers: [['TRAILER', 'x']] })],
    ['an outcome without headers', completed({ headers: undefined })],
    ['an unknown tombstone', completed({ tombstone: 'x', headers: undefined }, '')],
    ['a tombstone with headers', completed({ ...tombstone, headers: [] }, '')],
    ['a tombstone with a body', completed(tombstone)],
    ['a cipher of another algorithm', completed({ headers: ['A128GCM', 'key'] })],
    ['a claim in progress with a body', `0:1:1:0:${NOW}\n${JSON.stringify(inProgress)}\nbody`],
    ['a claim in progress with an outcome', `0:1:1:0:${NOW}\n${JSON.stringify(meta)}\n`],
    ['a fence beyond what a number holds', completed({}).replace('2:1', '2:9999999999999999')],
    ['a fence with a sign', completed({}).replace('2:1', '2:-1')],
    ['fence 0', completed({}).replace('2:1', '2:0')],
    ['attempt 0', completed({}).replace('2:1:1', '2:1:0')],
  ])('is refused: %s', (_, value) => foreign(value));
});
