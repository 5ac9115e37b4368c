import { Answer } from '../../../../lib/store/redis/connection/answer';

describe('an answer of Redis', () => {
  let told: unknown[];
  beforeEach(() => {
    told = [];
  });
  const awaited = (promise: Promise<unknown>, timeout = 20): Answer<unknown> => {
    const answer = new Answer<unknown>(
      timeout,
      (value) => told.push(value),
      (error) => told.push(error),
    );
    answer.await(promise);
    return answer;
  };
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

  it('is passed on, or its failure is, once', async () => {
    const error = new Error('refused');
    const answers = [awaited(Promise.resolve(1)), awaited(Promise.reject(error))];
    await turn();
    for (const answer of answers) answer.expire(0);
    expect(told).toEqual([1, error]);
  });

  it('that does not come fails at its time-out, and comes in vain later', async () => {
    let resolve!: (value: unknown) => void;
    const answer = awaited(new Promise((each) => (resolve = each)));
    answer.expire(0);
    expect(told).toEqual([new Error('no answer within 20 ms')]);
    resolve('late');
    await turn();
    expect(told).toHaveLength(1);
  });

  it('is waited for as long again, once, by a process that was too busy to look', () => {
    const answer = awaited(new Promise(() => undefined), 1_000);
    const due = answer.dueAt;
    answer.expire(5_000);
    expect(told).toEqual([]);
    expect(answer.dueAt).toBeGreaterThanOrEqual(due);
    answer.expire(5_000);
    expect(told).toHaveLength(1);
  });
});
