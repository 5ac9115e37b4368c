import { StoreUnavailableError } from '../../lib/core/errors';
import type { InFlightResult } from '../../lib/core/in-flight-requests';
import { Polls } from '../../lib/core/poll';
import type { IdempotencyRecord } from '../../lib/core/record';
import { Waiter } from '../../lib/core/waiting-room';
import { eventually } from '../support/eventually';
import { completedRecord, inProgressRecord } from '../support/records';

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

  it('asks no more once its last waiter has left, or the application closes', async () => {
    const polls = pollsThatSee(record);
    waitAt(polls).waiter.wake(undefined);
    await eventually(() => expect(polls.get(record.id.hash)).toBeUndefined());
    expect(asked).toBe(0);
    const { end } = waitAt(polls);
    closing.abort();
    expect(await end).toEqual({ kind: 'open' });
    expect(asked).toBe(0);
  });
});
