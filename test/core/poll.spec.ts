import { randomUUID } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { StoreUnavailableError } from '../../lib/core/errors';
import type { InFlightResult } from '../../lib/core/in-flight-requests';
import { Polls } from '../../lib/core/poll';
import { recordId, type IdempotencyRecord, type RecordId } from '../../lib/core/record';
import { Waiter } from '../../lib/core/waiting-room';
import { eventually } from '../support/eventually';
import { completedRecord, inProgressRecord } from '../support/records';

const KEYS = 50;

const record = inProgressRecord();
const completed = completedRecord({ id: record.id });

describe('a poll', () => {
  let asked: number;
  let closing: AbortController;
  /** The last answer stays. */
  const pollsThatSee = (...answers: (IdempotencyRecord | Error | undefined)[]): Polls => {
    asked = 0;
    closing = new AbortController();
    const find = async (): Promise<IdempotencyRecord | undefined> => {
      const answer = answers[Math.min(asked++, answers.length - 1)];
      if (answer instanceof Error) throw answer;
      return answer;
    };
    return new Polls({ find }, undefined, closing.signal);
  };
  const waitAt = (
    polls: Polls,
  ): { waiter: Waiter<InFlightResult>; end: Promise<InFlightResult | undefined> } => {
    const request = { id: record.id, policy: { maxWaiters: 1 } };
    let waiter!: Waiter<InFlightResult>;
    const end = new Promise<InFlightResult | undefined>((resolve, reject) => {
      waiter = new Waiter(polls.of(record.id, record).waiters, request, 0, resolve, reject);
    });
    return { waiter, end };
  };

  it('goes on while the owner works and while the store cannot be asked, and ends with the outcome', async () => {
    const renewed = inProgressRecord({ id: record.id, leaseRemaining: 20_000 });
    const polls = pollsThatSee(renewed, new StoreUnavailableError('postgres', 'find', 'gone'), completed);
    const poll = polls.of(record.id, record);
    expect(await waitAt(polls).end).toEqual({ kind: 'completed', record: completed });
    expect(asked).toBe(3);
    expect(poll.standing).toBe(renewed);
    expect(polls.get(record.id.hash)).toBeUndefined();
  });

  it.each([
    ['is absent', undefined],
    ['has lost its owner', inProgressRecord({ leaseRemaining: 0 })],
  ])('leaves the key to the next request once its record %s', async (_, seen) => {
    expect(await waitAt(pollsThatSee(seen)).end).toEqual({ kind: 'open' });
  });

  it('passes on why the store refused the question', async () => {
    const error = new Error('refused');
    expect(await waitAt(pollsThatSee(error)).end).toEqual({ kind: 'failed', error });
  });

  it('is one for all requests of a key', async () => {
    const polls = pollsThatSee(record, completed);
    const ends = [waitAt(polls), waitAt(polls), waitAt(polls)].map(({ end }) => end);
    expect(await Promise.all(ends)).toEqual(Array(3).fill({ kind: 'completed', record: completed }));
    expect(asked).toBe(2);
  });

  it('takes all keys along that have waited for half of their pause, so that the store can answer them together', async () => {
    const random = jest.spyOn(Math, 'random').mockReturnValue(0.5);
    let turn = 0;
    const asked: number[] = [];
    const find = async ({ hash }: RecordId): Promise<IdempotencyRecord> => {
      if (asked.length % KEYS === 0) turn++;
      setImmediate(() => (asked.length % KEYS === 0 ? undefined : (turn = NaN))); // a turn asks for all of them, or fails
      asked.push(turn);
      return asked.length > 2 * KEYS ? completedRecord() : inProgressRecord({ id: { ...record.id, hash } });
    };
    const polls = new Polls({ find }, undefined, new AbortController().signal);
    const clock = jest.spyOn(performance, 'now').mockReturnValue(performance.now()); // all begin at one time
    const ends = Array.from({ length: KEYS }, () => recordId('scope', randomUUID())).map((id) => {
      const place = polls.of(id, inProgressRecord({ id })).waiters;
      const request = { id, policy: { maxWaiters: 1 } };
      return new Promise((resolve, reject) => new Waiter(place, request, 0, resolve, reject));
    });
    clock.mockRestore();
    await Promise.all(ends).finally(() => random.mockRestore());
    expect(asked).toEqual([1, 2, 3].flatMap((each) => Array<number>(KEYS).fill(each)));
  });

  it('asks no more once its last waiter has left, or the application closes', async () => {
    const polls = pollsThatSee(record);
    waitAt(polls).waiter.wake(undefined);
    await eventually(() => expect(polls.get(record.id.hash)).toBeUndefined());
    expect(asked).toBe(0);
    const random = jest.spyOn(Math, 'random').mockReturnValueOnce(0); // what begins later is due later
    const { end } = waitAt(polls);
    closing.abort();
    expect(await end).toEqual({ kind: 'open' });
    expect(await waitAt(polls).end).toEqual({ kind: 'open' }); // it may still be asked for by one that has run its handler
    expect(asked).toBe(0);
    random.mockRestore();
  });
});
