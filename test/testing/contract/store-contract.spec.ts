import { setImmediate } from 'node:timers/promises';
import type { Claim, IdempotencyRecord, Outcome, RecordId } from '../../../lib/core/record';
import type { ClaimRequest, ClaimResult, CompleteResult } from '../../../lib/core/store';
import { MemoryStore, type MemoryStoreOptions } from '../../../lib/store/memory/memory.store';
import { failing } from '../../support/failing-contract';

const rowOf = (store: MemoryStore, { id }: { readonly id: RecordId }) => {
  const { data } = (store as unknown as { options: MemoryStoreOptions }).options;
  return { rows: data.rows, row: data.rows.get(id.hash), data };
};

/** The record of a claim, if another claim stands in its place by now. */
const isStale = (store: MemoryStore, claim: Claim): boolean => {
  const { row } = rowOf(store, claim);
  return row !== undefined && row.claim.token !== claim.token;
};

const LOOKS_ALIKE = 'claim keeps apart keys that look alike, and gives each back as it was given';

/** A store that goes by something else than the hash. */
const addressedBy = (address: (id: RecordId) => string) =>
  class extends MemoryStore {
    override async claim(request: ClaimRequest): Promise<ClaimResult> {
      const { id } = request;
      const result = await super.claim({ ...request, id: { ...id, hash: address(id) } });
      if (!result.claimed) return { ...result, record: { ...result.record, id } };
      return { ...result, claim: { ...result.claim, id } };
    }

    override async find(id: RecordId): Promise<IdempotencyRecord | undefined> {
      const found = await super.find({ ...id, hash: address(id) });
      return found && { ...found, id };
    }
  };

const wrong: Record<string, [Store: new (options: MemoryStoreOptions) => MemoryStore, caughtBy: string]> = {
  'takes an orphan over for anyone': [
    class extends MemoryStore {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        return super.claim({ ...request, takeOver: true });
      }
    },
    'a lapsed lease is left alone unless the claimant may take over',
  ],
  'takes an orphan over for another request': [
    class extends MemoryStore {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        const { row } = rowOf(this, request);
        return super.claim({ ...request, fingerprint: row?.claim.fingerprint ?? request.fingerprint });
      }
    },
    'a lapsed lease is left alone by a request with another fingerprint',
  ],
  'does not know its own token': [
    class extends MemoryStore {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        return super.claim({ ...request, token: crypto.randomUUID() });
      }
    },
    'claim recognises its own token when the reply to an earlier try was lost',
  ],
  'looks and claims in two steps': [
    class extends MemoryStore {
      override async claim(request: ClaimRequest): Promise<ClaimResult> {
        const record = await super.find(request.id);
        await setImmediate();
        if (!record) rowOf(this, request).rows.delete(request.id.hash);
        return super.claim(request);
      }
    },
    'claim gives one key to exactly one of many, at any instance',
  ],
  'begins its fences anew once a key is free': [
    class extends MemoryStore {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        const { row, data } = rowOf(this, request);
        data.fence = row?.claim.fence ?? 0;
        return super.claim(request);
      }
    },
    'release releases the key, and the next fence is higher',
  ],
  'completes for any token': [
    class extends MemoryStore {
      override complete(claim: Claim, outcome: Outcome): Promise<CompleteResult> {
        const { row } = rowOf(this, claim);
        return super.complete(row && !row.outcome ? row.claim : claim, outcome);
      }
    },
    'complete is refused under another token than the claim’s',
  ],
  'looks and completes in two steps': [
    class extends MemoryStore {
      override async complete(claim: Claim, outcome: Outcome): Promise<CompleteResult> {
        if (isStale(this, claim)) return super.complete(claim, outcome);
        await setImmediate();
        this.put({ claim, outcome });
        return { recorded: true };
      }
    },
    'each verb is one step, which completes an orphan, or lets another take it over',
  ],
  'looks whether a claim is lost, and completes it in a second step': [
    class extends MemoryStore {
      override async complete(claim: Claim, outcome: Outcome): Promise<CompleteResult> {
        if (rowOf(this, claim).row) return super.complete(claim, outcome);
        await setImmediate();
        this.put({ claim, outcome });
        return { recorded: true };
      }
    },
    'each verb is one step, which completes a claim that the store has lost, or gives its key to another',
  ],
  'keeps outcomes for the retention from their claim': [
    class extends MemoryStore {
      override async complete(claim: Claim, outcome: Outcome): Promise<CompleteResult> {
        const { row: before, rows } = rowOf(this, claim);
        const result = await super.complete(claim, outcome);
        const { retention } = this.options;
        const after = rows.get(claim.id.hash);
        if (before && after) rows.set(claim.id.hash, { ...after, expiresAt: before.createdAt + retention });
        return result;
      }
    },
    'an expired record answers for all of the retention once it is completed, however long its handler took',
  ],
  'looks and renews in two steps': [
    class extends MemoryStore {
      override async renew(claims: readonly Claim[], lease: number): Promise<ReadonlySet<string>> {
        const held = claims.filter((claim) => {
          const { row } = rowOf(this, claim);
          return row && !row.outcome && row.claim.token === claim.token && row.claim.fence === claim.fence;
        });
        await setImmediate();
        for (const claim of held) this.put({ claim, outcome: undefined }, lease);
        return new Set(held.map(({ token }) => token));
      }
    },
    'each verb is one step, which revives an orphan, or lets another take it over',
  ],
  'looks and releases in two steps': [
    class extends MemoryStore {
      override async release(claim: Claim): Promise<boolean> {
        const { row, rows } = rowOf(this, claim);
        if (!row || row.outcome || row.claim.token !== claim.token || row.claim.fence !== claim.fence)
          return super.release(claim);
        await setImmediate();
        return rows.delete(claim.id.hash);
      }
    },
    'each verb is one step, which does not release what has just taken an orphan over',
  ],
  'looks and forgets in two steps': [
    class extends MemoryStore {
      override async forget(claim: Claim): Promise<boolean> {
        const { row, rows } = rowOf(this, claim);
        if (row?.claim.token !== claim.token || row.claim.fence !== claim.fence) return super.forget(claim);
        if (!row.outcome && row.leaseUntil > this.options.now()) return false;
        await setImmediate();
        return rows.delete(claim.id.hash);
      }
    },
    'each verb is one step, which does not forget what has just taken an orphan over',
  ],
  'releases what is completed': [
    class extends MemoryStore {
      override async release(claim: Claim): Promise<boolean> {
        return isStale(this, claim) ? false : rowOf(this, claim).rows.delete(claim.id.hash);
      }
    },
    'release does not undo an outcome',
  ],
  'renews no lease that has lapsed': [
    class extends MemoryStore {
      override renew(claims: readonly Claim[], lease: number): Promise<ReadonlySet<string>> {
        const alive = claims.filter(
          (claim) => (rowOf(this, claim).row?.leaseUntil ?? 0) > this.options.now(),
        );
        return super.renew(alive, lease);
      }
    },
    'renew revives a lapsed lease that no claim took over',
  ],
  'rounds leases down to whole seconds': [
    class extends MemoryStore {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        const seconds = Math.floor(request.lease / 1_000);
        return super.claim(request.lease < 1_000 ? request : { ...request, lease: seconds * 1_000 });
      }
    },
    'claim holds for the milliseconds of its lease, which may be none of whole seconds',
  ],
  'does not know the token that took an orphan over': [
    class extends MemoryStore {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        const { row } = rowOf(this, request);
        const takenOver = row && !row.outcome && row.claim.attempt > 1;
        return super.claim(takenOver ? { ...request, token: crypto.randomUUID() } : request);
      }
    },
    'a lapsed lease is recognised by the token that took it over, when the reply to that was lost',
  ],
  'lets tombstones expire early': [
    class extends MemoryStore {
      override async complete(claim: Claim, outcome: Outcome): Promise<CompleteResult> {
        const result = await super.complete(claim, outcome);
        const { row, rows } = rowOf(this, claim);
        if (row && outcome.kind === 'tombstone')
          rows.set(claim.id.hash, { ...row, expiresAt: this.options.now() + 60_000 });
        return result;
      }
    },
    'complete keeps a tombstone as long as a response',
  ],
  'throws where there is nothing to renew': [
    class extends MemoryStore {
      override async renew(claims: readonly Claim[], lease: number): Promise<ReadonlySet<string>> {
        if (claims.length === 0) throw new Error('syntax error near "VALUES"');
        return super.renew(claims, lease);
      }
    },
    'renew gives an empty set for no claims',
  ],
  'does not know its own token once its lease has lapsed': [
    class extends MemoryStore {
      override claim(request: ClaimRequest): Promise<ClaimResult> {
        const { row } = rowOf(this, request);
        const lapsed = row && !row.outcome && row.leaseUntil <= this.options.now();
        return super.claim(lapsed ? { ...request, token: crypto.randomUUID() } : request);
      }
    },
    'claim recognises its own token after its lease has lapsed',
  ],
  'takes the last outcome of a claim': [
    class extends MemoryStore {
      override complete(claim: Claim, outcome: Outcome): Promise<CompleteResult> {
        const { row } = rowOf(this, claim);
        if (row?.claim.token === claim.token && row.claim.fence === claim.fence) this.put({ claim, outcome });
        return super.complete(claim, outcome);
      }
    },
    'complete keeps the first outcome of a claim: a client may have seen it',
  ],
  'counts the rest of a record’s time in seconds': [
    class extends MemoryStore {
      override async find(id: RecordId): Promise<IdempotencyRecord | undefined> {
        const found = await super.find(id);
        return found?.state === 'completed' ? { ...found, expiresIn: found.expiresIn / 1_000 } : found;
      }
    },
    'complete says for how many milliseconds the outcome answers',
  ],
  'fails to release what it does not have': [
    class extends MemoryStore {
      override async release(claim: Claim): Promise<boolean> {
        if (!rowOf(this, claim).row) throw new Error('no such row');
        return super.release(claim);
      }
    },
    'release is false where nothing stands',
  ],
  'leaves out namespaces': [
    addressedBy(({ scope, key }) => `${scope} ${key}`),
    'claim keeps the same key of two namespaces apart',
  ],
  'folds case': [addressedBy(({ scope, key }) => `${scope} ${key}`.toLowerCase()), LOOKS_ALIKE],
  'folds normal forms': [addressedBy(({ scope, key }) => `${scope} ${key}`.normalize()), LOOKS_ALIKE],
  'folds space at the ends': [addressedBy(({ scope, key }) => `${scope} ${key.trim()}`), LOOKS_ALIKE],
  'cuts long keys': [addressedBy(({ scope, key }) => `${scope} ${key.slice(0, 128)}`), LOOKS_ALIKE],
  'forgets a claim whose owner is alive': [
    class extends MemoryStore {
      override async forget(claim: Claim): Promise<boolean> {
        return isStale(this, claim) ? false : rowOf(this, claim).rows.delete(claim.id.hash);
      }
    },
    'find and forget refuses to forget a claim whose owner is alive',
  ],
};

describe('the contract of a store', () => {
  it('is kept by the store in memory', async () => {
    expect(await failing(MemoryStore)).toEqual([]);
  });

  it.each(Object.entries(wrong))('is not kept by one that %s', async (_, [Store, caughtBy]) => {
    expect(await failing(Store)).toContain(caughtBy);
  });
});
