import fc from 'fast-check';
import { ClientLeftError, isIdempotencyError } from '../../lib/core/errors';
import { wakeAll, WaitingRoom, type Place, type WaitingRequest } from '../../lib/core/waiting-room';

/** A room whose waiters are named by the test, and what its metrics were told. */
function open(bounds: { total?: number; bytes?: number; ofKey?: number } = {}) {
  const { total = 1_000, bytes = 1_000_000, ofKey = 1_000 } = bounds;
  const shed: string[] = [];
  const held = { requests: 0, bytes: 0 };
  const room = new WaitingRoom(
    { maxWaitersTotal: total, maxWaitingBytes: bytes },
    {
      shed: (_, reason) => shed.push(reason),
      waiting: (requests, size) => {
        held.requests += requests;
        held.bytes += size;
      },
    },
  );
  const places = new Map<string, Place<string>>();
  const placeOf = (key: string): Place<string> => {
    const place = places.get(key) ?? new Set();
    places.set(key, place);
    return place;
  };
  const refused: string[] = [];
  const wait = (key: string, size = 0, more: Partial<WaitingRequest> = {}): Promise<string | undefined> => {
    const request = { id: { hash: key }, policy: { maxWaiters: ofKey }, bytes: () => size, ...more };
    const waiting = room.wait(placeOf(key), request);
    waiting.catch((error: unknown) => {
      if (isIdempotencyError(error) && error.code === 'overloaded' && error.details.retryAfter)
        refused.push(key);
    });
    return waiting;
  };
  return { room, wait, placeOf, shed, held, refused };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('the waiting room', () => {
  it('wakes all who wait at a place, and holds nothing of them', async () => {
    const { wait, placeOf, held } = open();
    const waiting = [wait('a', 10), wait('a', 20), wait('b', 30)];
    expect(held).toEqual({ requests: 3, bytes: 60 });
    wakeAll(placeOf('a'), 'done');
    expect(await Promise.all(waiting.slice(0, 2))).toEqual(['done', 'done']);
    expect(held).toEqual({ requests: 1, bytes: 30 });
  });

  it('turns a request away that finds too many of its own key', async () => {
    const { wait, refused, shed, held } = open({ ofKey: 2 });
    for (const key of ['a', 'a', 'a', 'b']) void wait(key);
    await turn();
    expect(refused).toEqual(['a']);
    expect(shed).toEqual(['waiters_of_key']);
    expect(held.requests).toBe(3);
  });

  it('turns the newest of the key with the most waiters away, not the one that comes', async () => {
    const { wait, refused, shed } = open({ total: 4 });
    for (const key of ['noisy', 'noisy', 'noisy', 'other', 'third']) void wait(key);
    await turn();
    expect(refused).toEqual(['noisy']);
    expect(shed).toEqual(['waiters']);
  });

  it('turns the key with the most bytes away until the others have room', async () => {
    const { wait, refused, shed, held } = open({ bytes: 100 });
    for (const size of [40, 40]) void wait('large', size);
    for (let i = 0; i < 5; i++) void wait(`small-${i}`, 10);
    await turn();
    expect(refused).toEqual(['large']);
    expect(shed).toEqual(['waiting_bytes']);
    expect(held.bytes).toBe(90);
  });

  it('drops a request at once whose client leaves, or has left already', async () => {
    const { wait, held } = open();
    let leave!: () => void;
    let listening = 0;
    const waiting = wait('a', 10, {
      onClientLeft: (listener) => {
        leave = listener;
        listening++;
        return () => listening--;
      },
    });
    leave();
    await expect(waiting).rejects.toThrow(ClientLeftError);
    expect(held).toEqual({ requests: 0, bytes: 0 });
    expect(listening).toBe(0);
    const late = wait('a', 10, { onClientLeft: (listener) => (listener(), () => undefined) });
    await expect(late).rejects.toThrow(ClientLeftError);
    expect(held).toEqual({ requests: 0, bytes: 0 });
  });

  it('neither turns away nor drops a request whose handler has run', async () => {
    const { room, placeOf, shed } = open({ total: 0, ofKey: 0 });
    const request = { id: { hash: 'a' }, policy: { maxWaiters: 0 }, onClientLeft: () => fail() };
    const waiting = room.wait(placeOf('a'), request, { exempt: true });
    wakeAll(placeOf('a'), 'done');
    expect(await waiting).toBe('done');
    expect(shed).toEqual([]);
  });

  it('stays within its bounds, and counts what waits', async () => {
    const comings = fc.array(
      fc.record({ key: fc.constantFrom('a', 'b', 'c', 'd'), bytes: fc.nat(50), leaves: fc.boolean() }),
      {
        maxLength: 60,
      },
    );
    await fc.assert(
      fc.asyncProperty(comings, async (list) => {
        const { wait, placeOf, held } = open({ total: 10, bytes: 200 });
        const waiting = (): number => ['a', 'b', 'c', 'd'].reduce((sum, key) => sum + placeOf(key).size, 0);
        for (const { key, bytes, leaves } of list) {
          if (leaves) wakeAll(placeOf(key), 'done');
          else wait(key, bytes).catch(() => undefined);
          expect(held.requests).toBe(waiting());
          expect(held.requests).toBeLessThanOrEqual(10);
          expect(held.bytes).toBeLessThanOrEqual(200);
          if (held.requests === 0) expect(held.bytes).toBe(0);
        }
      }),
      { numRuns: 300 },
    );
  });
});
