import { randomUUID } from 'node:crypto';
import {
  recordId,
  type Claim,
  type IdempotencyRecord,
  type Outcome,
  type RecordId,
} from '../../lib/core/record';
import type { ClaimRequest, ClaimResult, IdempotencyStore } from '../../lib/core/store';
import { eventually } from '../support/eventually';

/** What a test of the contract runs on. */
export interface ContractSubject {
  readonly store: IdempotencyStore;
  /** A second instance over the same data, as another process has. */
  readonly another: IdempotencyStore;
  close(): Promise<void>;
}

export interface ContractSetup {
  /** Milliseconds until a record expires. */
  readonly retention: number;
}

const FINGERPRINT = 'a'.repeat(64);
const OTHER_FINGERPRINT = 'b'.repeat(64);
const SHORT_LEASE = 60;

const created: Outcome = {
  kind: 'response',
  status: 201,
  headers: [['Content-Type', 'application/json']],
  body: Buffer.from('{"id":1}'),
};

/** The promises of {@link IdempotencyStore}, for any store. */
export function storeContract(
  name: string,
  setup: (options: ContractSetup) => Promise<ContractSubject>,
): void {
  describe(`${name}: the contract of a store`, () => {
    let subject: ContractSubject;
    let store: IdempotencyStore;
    let another: IdempotencyStore;
    let id: RecordId;

    beforeAll(async () => {
      subject = await setup({ retention: 3_600_000 });
      ({ store, another } = subject);
    });
    afterAll(() => subject.close());
    beforeEach(() => {
      id = recordId('POST /leads', randomUUID());
    });

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
    const claim = async (more: Partial<ClaimRequest> = {}): Promise<Claim> =>
      won(await store.claim(request(more)));
    const orphan = async (): Promise<Claim> => {
      const lapsing = await claim({ lease: SHORT_LEASE });
      await eventually(async () => {
        const record = await store.find(id);
        expect(record).toMatchObject({ state: 'in_progress' });
        expect(inProgress(record).leaseRemaining).toBeLessThanOrEqual(0);
      });
      return lapsing;
    };

    describe('claim', () => {
      it('gives an absent key to the first that asks', async () => {
        const token = randomUUID();
        const mine = await claim({ token });
        expect(mine).toEqual({ id, fingerprint: FINGERPRINT, token, attempt: 1, fence: expect.any(Number) });
        expect(mine.fence).toBeGreaterThan(0);
      });

      it.each(['durable', 'fast'] as const)(
        'answers the second with the first one’s record (%s)',
        async (durability) => {
          const mine = await claim({ durability });
          const second = await another.claim(request({ durability }));
          expect(second).toMatchObject({ claimed: false, record: { ...mine, state: 'in_progress' } });
          const { leaseRemaining } = inProgress(second.claimed ? undefined : second.record);
          expect(leaseRemaining).toBeGreaterThan(0);
          expect(leaseRemaining).toBeLessThanOrEqual(30_000);
        },
      );

      it('recognises its own token when the reply to an earlier try was lost', async () => {
        const token = randomUUID();
        const mine = await claim({ token });
        expect(await store.claim(request({ token }))).toEqual({ claimed: true, claim: mine });
      });

      it('gives one key to exactly one of many, whichever instance they ask', async () => {
        const results = await Promise.all(
          Array.from({ length: 50 }, (_, i) => (i % 2 ? store : another).claim(request())),
        );
        const winners = results.filter((result) => result.claimed);
        expect(winners).toHaveLength(1);
        const winner = won(winners[0]);
        for (const result of results) {
          if (!result.claimed)
            expect(result.record).toMatchObject({ token: winner.token, fence: winner.fence });
        }
      });

      it('keeps the same key in two scopes apart', async () => {
        await claim();
        const elsewhere = recordId('POST /orders', id.key);
        expect((await store.claim(request({ id: elsewhere }))).claimed).toBe(true);
      });
    });

    describe('a lapsed lease', () => {
      it('is left alone unless the claimant may take over', async () => {
        const old = await orphan();
        expect(await another.claim(request())).toMatchObject({
          claimed: false,
          record: { token: old.token },
        });
      });

      it('is left alone by a request with another fingerprint', async () => {
        const old = await orphan();
        const result = await another.claim(request({ takeOver: true, fingerprint: OTHER_FINGERPRINT }));
        expect(result).toMatchObject({
          claimed: false,
          record: { token: old.token, fingerprint: FINGERPRINT },
        });
      });

      it('is taken over by exactly one of many, with the next attempt and a higher fence', async () => {
        const old = await orphan();
        const results = await Promise.all(
          Array.from({ length: 20 }, (_, i) => (i % 2 ? store : another).claim(request({ takeOver: true }))),
        );
        const winners = results.filter((result) => result.claimed);
        expect(winners).toHaveLength(1);
        expect(won(winners[0]).attempt).toBe(2);
        expect(won(winners[0]).fence).toBeGreaterThan(old.fence);
      });

      it('is not taken over while it lives', async () => {
        const mine = await claim();
        expect(await another.claim(request({ takeOver: true }))).toMatchObject({
          claimed: false,
          record: { token: mine.token },
        });
      });
    });

    describe('complete', () => {
      it('records the outcome for everyone', async () => {
        const mine = await claim();
        expect(await store.complete(mine, created)).toEqual({ recorded: true });
        const found = await another.find(id);
        expect(found).toMatchObject({ ...mine, state: 'completed', outcome: created, pending: false });
        expect((await another.claim(request({ takeOver: true }))).claimed).toBe(false);
      });

      it('may be repeated when its reply was lost', async () => {
        const mine = await claim();
        await store.complete(mine, created);
        expect(await another.complete(mine, created)).toEqual({ recorded: true });
      });

      it('still counts after the lease has lapsed, as long as nobody took over', async () => {
        const mine = await orphan();
        expect(await store.complete(mine, created)).toEqual({ recorded: true });
      });

      it('is refused once another claim stands, and shows that claim', async () => {
        const old = await orphan();
        const winner = await claim({ takeOver: true });
        expect(await store.complete(old, created)).toMatchObject({
          recorded: false,
          record: { state: 'in_progress', token: winner.token, fence: winner.fence },
        });
      });

      it.each<[string, Partial<Claim>]>([
        ['token', { token: randomUUID() }],
        ['fence', { fence: 3 }],
      ])('is refused under another %s than the claim’s', async (_, other) => {
        const mine = await claim();
        expect(await store.complete({ ...mine, ...other }, created)).toMatchObject({
          recorded: false,
          record: { state: 'in_progress', token: mine.token, fence: mine.fence },
        });
        expect(await store.complete(mine, created)).toEqual({ recorded: true });
      });

      it('is refused once another claim has completed, and shows its outcome', async () => {
        const old = await orphan();
        const winner = await claim({ takeOver: true });
        await store.complete(winner, { ...created, status: 202 });
        expect(await store.complete(old, created)).toMatchObject({
          recorded: false,
          record: { state: 'completed', outcome: { status: 202 } },
        });
      });

      it('records the outcome although the store has lost the claim: the handler has run', async () => {
        const lost: Claim = { id, fingerprint: FINGERPRINT, token: randomUUID(), fence: 7, attempt: 1 };
        expect(await store.complete(lost, created)).toEqual({ recorded: true });
        expect(await store.find(id)).toMatchObject({ state: 'completed', outcome: created });
      });

      it.each<[string, Outcome]>([
        ['any bytes', response({ body: Buffer.from([0, 10, 13, 255, 254, 0, 128, 0xc3, 0x28]) })],
        ['no bytes', response({ body: Buffer.alloc(0) })],
        ['1 MiB', response({ body: Buffer.alloc(1_048_576, '\n0:1:2\n') })],
        [
          'header order, repeated and odd values',
          response({
            headers: [
              ['X-B', '2'],
              ['x-a', ['1', '', '1']],
              ['X-U', 'é"\\\t'],
            ],
          }),
        ],
        ['no headers', response({ headers: [] })],
        ['a tombstone for a large body', { kind: 'tombstone', status: 200, reason: 'too_large' }],
        ['a tombstone for an unstorable one', { kind: 'tombstone', status: 204, reason: 'unstorable' }],
      ])('keeps %s byte for byte', async (_, outcome) => {
        await store.complete(await claim(), outcome);
        const found = await another.find(id);
        if (found?.state !== 'completed') throw new Error('there is no outcome');
        // Jest compares long buffers byte by byte, for seconds.
        if (outcome.kind === 'response') expect(bodyOf(found.outcome).equals(outcome.body)).toBe(true);
        expect({ ...found.outcome, body: undefined }).toEqual({ ...outcome, body: undefined });
      });
    });

    describe('release', () => {
      it('gives the key back, and the next fence is higher', async () => {
        const mine = await claim();
        expect(await store.release(mine)).toBe(true);
        expect(await another.find(id)).toBeUndefined();
        const next = won(await another.claim(request({ fingerprint: OTHER_FINGERPRINT })));
        expect(next.attempt).toBe(1);
        expect(next.fence).toBeGreaterThan(mine.fence);
      });

      it('needs only the token when the claim’s reply, and so its fence, was lost', async () => {
        const mine = await claim();
        expect(await store.release({ ...mine, fence: 0, attempt: 0 })).toBe(true);
        expect(await store.find(id)).toBeUndefined();
      });

      it('leaves an orphan an orphan where the reply to its takeover was lost: its handler may have run', async () => {
        await orphan();
        const lost = await claim({ takeOver: true });
        expect(await store.release({ ...lost, fence: 0, attempt: 0 })).toBe(true);
        const left = await another.find(id);
        expect(inProgress(left).leaseRemaining).toBeLessThanOrEqual(0);
        expect((await claim({ takeOver: true })).attempt).toBeGreaterThan(2);
      });

      it('harms nobody after a takeover', async () => {
        const old = await orphan();
        const winner = await claim({ takeOver: true });
        expect(await store.release(old)).toBe(false);
        expect(await store.find(id)).toMatchObject({ token: winner.token });
      });

      it('does not undo an outcome', async () => {
        const mine = await claim();
        await store.complete(mine, created);
        expect(await store.release(mine)).toBe(false);
        expect(await store.find(id)).toMatchObject({ state: 'completed' });
      });
    });

    describe('renew', () => {
      it('extends the leases that still stand, and names no others', async () => {
        const lapsed = await orphan();
        const winner = await claim({ takeOver: true, lease: 1_000 });
        id = recordId('POST /leads', randomUUID());
        const mine = await claim({ lease: 1_000 });
        const unknown: Claim = { ...mine, id: recordId('POST /leads', randomUUID()), token: randomUUID() };
        const held = await store.renew([lapsed, winner, mine, unknown], 60_000);
        expect(held).toEqual(new Set([winner.token, mine.token]));
        expect(inProgress(await another.find(mine.id)).leaseRemaining).toBeGreaterThan(1_000);
        expect(inProgress(await another.find(winner.id)).leaseRemaining).toBeGreaterThan(1_000);
      });

      it('revives a lapsed lease that nobody took over', async () => {
        const mine = await orphan();
        expect(await store.renew([mine], 60_000)).toEqual(new Set([mine.token]));
        expect((await another.claim(request({ takeOver: true }))).claimed).toBe(false);
      });

      it('does not name a completed claim', async () => {
        const mine = await claim();
        await store.complete(mine, created);
        expect(await store.renew([mine], 60_000)).toEqual(new Set());
      });
    });

    describe('find and forget', () => {
      it('finds nothing under an absent key', async () => {
        expect(await store.find(id)).toBeUndefined();
        expect(
          await store.forget({ id, fingerprint: FINGERPRINT, token: randomUUID(), fence: 1, attempt: 1 }),
        ).toBe(false);
      });

      it('refuses to forget a claim whose owner is alive', async () => {
        const mine = await claim();
        expect(await store.forget(mine)).toBe(false);
        expect(await store.find(id)).toMatchObject({ token: mine.token });
      });

      it('forgets an outcome, and the next fence is higher', async () => {
        const mine = await claim();
        await store.complete(mine, created);
        expect(await another.forget(mine)).toBe(true);
        expect(await store.find(id)).toBeUndefined();
        expect((await claim()).fence).toBeGreaterThan(mine.fence);
      });

      it('forgets an orphan', async () => {
        const old = await orphan();
        expect(await store.forget(old)).toBe(true);
        expect(await another.find(id)).toBeUndefined();
      });

      it('does not forget the claim that came after the one it was told of', async () => {
        const old = await orphan();
        const winner = await claim({ takeOver: true });
        await store.complete(winner, created);
        expect(await store.forget(old)).toBe(false);
        expect(await store.find(id)).toMatchObject({ token: winner.token });
      });
    });

    describe('an expired record', () => {
      let brief: ContractSubject;
      beforeAll(async () => {
        brief = await setup({ retention: 120 });
      });
      afterAll(() => brief.close());

      it('is absent, and its key can be claimed anew by another request, with a higher fence', async () => {
        const old = won(await brief.store.claim(request({ lease: 50 })));
        await brief.store.complete(old, created);
        await eventually(async () => expect(await brief.store.find(id)).toBeUndefined());
        const results = await Promise.all(
          Array.from({ length: 10 }, () =>
            brief.another.claim(request({ fingerprint: OTHER_FINGERPRINT, lease: 5_000 })),
          ),
        );
        const winners = results.filter((result) => result.claimed);
        expect(winners).toHaveLength(1);
        expect(won(winners[0])).toMatchObject({ attempt: 1, fingerprint: OTHER_FINGERPRINT });
        expect(won(winners[0]).fence).toBeGreaterThan(old.fence);
      });

      it('is never a claim whose lease lives, however short the retention', async () => {
        const mine = won(await brief.store.claim(request({ lease: 2_000 })));
        await new Promise((resolve) => setTimeout(resolve, 200)); // longer than the retention: nothing may happen
        expect((await brief.another.claim(request({ takeOver: true }))).claimed).toBe(false);
        expect(await brief.store.find(id)).toMatchObject({ token: mine.token });
      });

      it('does not expire while its lease is renewed', async () => {
        const mine = won(await brief.store.claim(request({ lease: 50 })));
        await brief.store.renew([mine], 60_000);
        await new Promise((resolve) => setTimeout(resolve, 200)); // longer than the retention: nothing may happen
        expect(await brief.store.find(id)).toMatchObject({ state: 'in_progress', token: mine.token });
      });
    });
  });
}

function won(result: ClaimResult | undefined): Claim {
  if (!result?.claimed) throw new Error('the claim was not won');
  return result.claim;
}

function inProgress(record: IdempotencyRecord | undefined): IdempotencyRecord & { state: 'in_progress' } {
  if (record?.state !== 'in_progress') throw new Error('the record is not in progress');
  return record;
}

function bodyOf(outcome: Outcome): Buffer {
  if (outcome.kind !== 'response') throw new Error('the outcome has no body');
  return outcome.body;
}

function response(part: Partial<Outcome & { kind: 'response' }>): Outcome {
  return { ...(created as Outcome & { kind: 'response' }), ...part };
}
