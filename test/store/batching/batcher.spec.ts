import { Batcher, type BatchBounds } from '../../../lib/store/batching/batcher';
import { forgetDeadlines } from '../../support/forget-deadlines';

// So that a test can set the clock.
jest.mock('node:perf_hooks', () => ({ performance: { now: () => globalThis.performance.now() } }));

interface Item {
  readonly key: string;
  readonly bytes: number;
  readonly poisoned?: boolean;
}

class Refusal extends Error {}
class Expired extends Error {
  constructor(readonly sent: boolean) {
    super(sent ? 'expired, sent' : 'expired, not sent');
  }
}

interface Flush {
  readonly items: readonly Item[];
  readonly onStart: () => void;
  readonly onSend: () => void;
  readonly answer: (error?: Error) => void;
}

/** A batcher whose batches the test answers by hand. */
function byHand(
  bounds: Partial<BatchBounds> = {},
  timeout = 30_000,
  expires = false,
  afterTurn = false,
  max?: number,
) {
  const flushes: Flush[] = [];
  const batcher = new Batcher<Item, string>({
    send: (items, { deadline, onStart, onSend, onResults, onError }) => {
      const late = (): void => onError(new Error('late'));
      const timer = expires ? setTimeout(late, deadline - performance.now()) : undefined;
      const answer = (error?: Error): void => {
        clearTimeout(timer);
        onSend();
        if (error) onError(error);
        else if (items.some(({ poisoned }) => poisoned)) onError(new Refusal('poisoned'));
        else onResults(items.map(({ key }) => `${key} done`));
      };
      flushes.push({ items, onStart, onSend, answer });
    },
    keyOf: ({ key }) => key,
    bytesOf: ({ bytes }) => bytes,
    isRefusal: (error) => error instanceof Refusal,
    expired: (sent) => new Expired(sent),
    timeout,
    bounds: { items: 4, bytes: 100, inFlight: 1, ...bounds },
    afterTurn,
    queue: max === undefined ? undefined : { max, full: () => new Error('full') },
  });
  const add = (key: string, more: Partial<Item> = {}) =>
    new Promise<string>((resolve, reject) => batcher.add({ key, bytes: 1, ...more }, resolve, reject));
  const sent = (): string[] => flushes.map(({ items }) => items.map(({ key }) => key).join(' '));
  /** Answers whatever is sent until all of these are settled. */
  const settled = async <T>(work: readonly Promise<T>[]): Promise<PromiseSettledResult<T>[]> => {
    const state = { pending: true };
    const all = Promise.allSettled(work).finally(() => (state.pending = false));
    for (let answered = 0; state.pending; await new Promise((resolve) => setImmediate(resolve)))
      while (answered < flushes.length) flushes[answered++]?.answer();
    return all;
  };
  return { add, sent, settled, flushes };
}

const outcomes = (results: PromiseSettledResult<string>[]): string[] =>
  results.map((result) => (result.status === 'fulfilled' ? result.value : String(result.reason)));

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/**
 * Stops the clock.
 * @returns what lets so many milliseconds pass
 */
function stoppedClock(): (ms: number) => Promise<void> {
  jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick', 'queueMicrotask'] });
  forgetDeadlines();
  return async (ms) => {
    jest.advanceTimersByTime(ms);
    await new Promise((resolve) => setImmediate(resolve));
  };
}

describe('Batcher', () => {
  afterEach(() => {
    jest.useRealTimers();
    forgetDeadlines();
  });

  it('sends at once and alone what comes while nothing is under way', async () => {
    const { add, sent, settled } = byHand();
    const only = add('a');
    expect(sent()).toEqual(['a']);
    await settled([only]);
  });

  it('sends what comes meanwhile together, in its order, and gives each its own result', async () => {
    const { add, sent, settled } = byHand();
    const results = await settled([add('a'), add('d'), add('c'), add('b')]);
    expect(sent()).toEqual(['a', 'd c b']);
    expect(outcomes(results)).toEqual(['a done', 'd done', 'c done', 'b done']);
  });

  it('sends no more items together than it may', async () => {
    const { add, sent, settled } = byHand({ items: 2 });
    await settled(['a', 'b', 'c', 'd', 'e'].map((key) => add(key)));
    expect(sent()).toEqual(['a', 'b c', 'd e']);
  });

  it('sends no more bytes together than it may, but for one item that has more alone', async () => {
    const { add, sent, settled } = byHand({ bytes: 10 });
    const sized: [string, number][] = [
      ['a', 1],
      ['b', 6],
      ['c', 4],
      ['d', 1],
      ['e', 99],
      ['f', 1],
    ];
    await settled(sized.map(([key, bytes]) => add(key, { bytes })));
    expect(sent()).toEqual(['a', 'b c', 'd', 'e', 'f']);
  });

  it('has as many batches under way as it may', async () => {
    const { add, sent, settled } = byHand({ inFlight: 2 });
    const added = [add('a'), add('b')];
    await turn();
    added.push(add('c'));
    await turn();
    expect(sent()).toEqual(['a', 'b']);
    await settled(added);
    expect(sent()).toEqual(['a', 'b', 'c']);
  });

  it('sends what comes in one turn of the event loop together where several batches may be under way', async () => {
    const { add, sent, settled } = byHand({ inFlight: Infinity });
    const added = ['a', 'b', 'c'].map((key) => add(key));
    expect(sent()).toEqual(['a']);
    await turn();
    expect(sent()).toEqual(['a', 'b c']);
    await settled(added);
  });

  it('lets even a lone item wait for the end of the turn where it is told to', async () => {
    const { add, sent, settled } = byHand({}, 30_000, false, true);
    const added = add('a');
    await Promise.resolve();
    expect(sent()).toEqual([]);
    await turn();
    expect(sent()).toEqual(['a']);
    await settled([added]);
  });

  it('never sends two items of one key together', async () => {
    const { add, sent, settled } = byHand();
    await settled(['x', 'a', 'a', 'b', 'a'].map((key) => add(key)));
    expect(sent()).toEqual(['x', 'a b', 'a', 'a']);
  });

  it('isolates an item that is refused from the others of its batch', async () => {
    const { add, settled } = byHand();
    const results = await settled([add('x'), add('a'), add('b', { poisoned: true }), add('c'), add('d')]);
    expect(outcomes(results)).toEqual(['x done', 'a done', 'Error: poisoned', 'c done', 'd done']);
  });

  it('does not send a batch again whose effect is unknown', async () => {
    const { add, sent, flushes } = byHand();
    const first = add('x');
    const results = Promise.allSettled([add('a'), add('b')]);
    flushes[0]?.answer();
    await first;
    await new Promise((resolve) => setImmediate(resolve));
    flushes[1]?.answer(new Error('gone'));
    expect(outcomes(await results)).toEqual(['Error: gone', 'Error: gone']);
    expect(sent()).toEqual(['x', 'a b']);
  });

  it('goes on after a batch that failed', async () => {
    const { add, flushes, settled } = byHand();
    const failing = add('a');
    const next = add('b');
    flushes[0]?.answer(new Error('gone'));
    await expect(failing).rejects.toThrow('gone');
    expect(outcomes(await settled([next]))).toEqual(['b done']);
  });

  it('rejects each item by its deadline, and knows whether it may have taken effect', async () => {
    const { add, flushes, sent, settled } = byHand({}, 40);
    const [under, queued] = [add('a'), add('b')];
    flushes[0]?.onSend();
    const results = await Promise.allSettled([under, queued]);
    expect(outcomes(results)).toEqual(['Error: expired, sent', 'Error: expired, not sent']);
    flushes[0]?.answer();
    expect(outcomes(await settled([add('c')]))).toEqual(['c done']);
    expect(sent()).toEqual(['a', 'c']); // what was given up in the queue is never sent
  });

  it('ends a batch before any of its items is given up, and sends those again that have time left', async () => {
    const pass = stoppedClock();
    const { add, flushes, sent } = byHand({}, 300, true);
    const first = add('x');
    const early = expect(add('a')).rejects.toThrow('late');
    await pass(150); // half of the deadline, which the second has to itself
    const late = add('b');
    flushes[0]?.answer();
    await first;
    await pass(150);
    await early;
    expect(sent()).toEqual(['x', 'a b', 'b']);
    flushes[2]?.answer();
    await expect(late).resolves.toBe('b done');
  });

  it('gives a batch that begins late as long as one that begins at once', async () => {
    const pass = stoppedClock();
    const { add, flushes } = byHand({}, 100);
    const added = add('a');
    await pass(99);
    flushes[0]?.onStart();
    await pass(99);
    flushes[0]?.answer();
    await expect(added).resolves.toBe('a done');
  });

  it('turns away what finds its queue full', async () => {
    const { add, sent, settled } = byHand({}, 30_000, false, false, 2);
    const added = ['a', 'b', 'c'].map((key) => add(key));
    await expect(add('d')).rejects.toThrow('full');
    await settled(added);
    expect(sent()).toEqual(['a', 'b c']);
  });

  it('turns away at once what cannot be sent in time, going by the batches before it', async () => {
    const pass = stoppedClock();
    const { add, flushes, settled } = byHand({ items: 1 }, 400, false, false, 100);
    const first = add('x');
    flushes[0]?.onStart();
    const queued = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map((key) => add(key));
    const all = Promise.allSettled(queued);
    const last = expect(queued.at(-1)).rejects.toThrow('expired, not sent');
    await pass(100); // what the batch takes
    flushes[0]?.answer(); // so each takes 100 ms, and the last of eight cannot begin within 400 ms
    await first;
    await last;
    expect(flushes.length).toBeLessThan(3); // those before it are still under way
    await settled(queued);
    expect(outcomes(await all)[0]).toBe('a done');
  });

  it('reads what was answered before it gives an item up that a busy process has left waiting', async () => {
    const { add, flushes } = byHand({}, 50);
    const added = add('a');
    setImmediate(() => {
      const until = performance.now() + 120;
      while (performance.now() < until); // the timer is due when this ends
      process.nextTick(() => undefined);
      setImmediate(() => flushes[0]?.answer());
    });
    await expect(added).resolves.toBe('a done');
  });

  it('calls an item not sent that was handed on but waited for a connection', async () => {
    const { add } = byHand({}, 20);
    await expect(add('a')).rejects.toThrow('expired, not sent');
  });
});
